"""Text of strangers in a report: whatever it says, the page has the elements, scripts and links that it would have."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hydrometer.alignment.advice.export import write_trl_rows
from hydrometer.artifacts import TABLES, read_json, read_table, write_json, write_table
from hydrometer.report import build_report
from hydrometer.report.embedding import extract

TRAPS = (
    "</script><script>alert(1)</script>",
    "</style></title></textarea><img src=x onerror=alert(1)>",
    "<!--<script>",
    "--><svg onload=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "line\u2028separator\u2029here\u0085",
    "esc\x1b[31m nul\x00 bell\x07",
    "\u202eright to left\u200f \u2066isolated",
    "{{ 7 * 7 }}{% for x in y %}${x}",
    "=cmd|'/c calc'!A1",
    "javascript:alert(1)",
    "&lt;script&gt;&#0;",
)
_FREE_TEXT = {
    "questions": ("prompt", "answer", "task"),
    "rollouts": ("text", "model"),
    "nodes": ("token",),
    "candidates": ("token",),
    "contexts": ("prompt", "reason"),
}
"""Columns that hold what people and models wrote, apart from the names that join tables."""


class Skeleton(HTMLParser):
    """Elements with the names of their attributes, the content of scripts, and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.targets: set[str | None] = set()
        self.comments = 0
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.targets |= {value for name, value in attrs if name in ("href", "src", "action")}
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)


def skeleton(page: Path) -> Skeleton:
    found = Skeleton()
    found.feed(page.read_text(encoding="utf-8"))
    found.close()
    return found


def poison(folder: Path, text: str) -> None:
    """Put `text` after every word of every file of a run that a stranger could have written, names included."""
    for name in TABLES:
        frame = read_table(folder / f"{name}.parquet")
        columns = ["question_id", "teacher", *_FREE_TEXT.get(name, ())]
        here = [column for column in columns if column in frame.columns and frame[column].dtype == pl.String]
        write_table(folder / f"{name}.parquet", frame.with_columns(pl.col(here) + text))
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    for key in ("task", "device", "student"):
        run["config"][key] = f"{run['config'].get(key, '')}{text}"
    run["config"]["teacher"] = [f"{teacher}{text}" for teacher in run["config"]["teacher"]]
    run["config"][f"key{text}"] = text
    run["versions"] = {f"{name}{text}": f"{version}{text}" for name, version in run["versions"].items()}
    write_json(folder / "run.json", run)
    write_json(folder / "summary.json", _rename(summary, text) | {"warnings": [text, {"sentence": text}]})


def _rename(value: Any, text: str) -> Any:
    if isinstance(value, list):
        return [_rename(entry, text) for entry in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, inner in value.items():
        named = key in ("teacher", "sentence", "verdict", "family", "against") and inner not in (None, "no teacher")
        found[key] = f"{inner}{text}" if named else _rename(inner, text)
    return found


@pytest.fixture(scope="module")
def plain(done: Path, tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    """The page with a harmless word in every place."""
    copy = Path(shutil.copytree(done, tmp_path_factory.mktemp("plain") / "finished"))
    poison(copy, "word")
    return skeleton(build_report(copy))


@pytest.mark.parametrize("trap", TRAPS)
def test_text_makes_no_element_no_attribute_and_no_script(trap: str, finished: Path, plain: Skeleton) -> None:
    poison(finished, trap)
    page = build_report(finished)
    found = skeleton(page)
    assert found.elements == plain.elements
    assert found.targets == plain.targets
    assert (found.comments, len(found.scripts)) == (0, len(plain.scripts))
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"script-src ((?:'sha256-[^']+' ?)+);", text)
    running = [content for attributes, content in found.scripts if "type" not in attributes]
    assert policy
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in running]
    assert policy[1] == " ".join(f"'sha256-{digest}'" for digest in hashes)
    assert not set(text) & set("\x00\x07\x1b\x85\u2028\u2029\u202e\u200f\u2066")
    [content] = [content for attributes, content in found.scripts if "type" in attributes]
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", content)
    data = json.dumps(extract(content), ensure_ascii=False)
    assert not set(data) & set("\x00\x07\x1b\x85\u2028\u2029\u202e\u200f\u2066")
    first = re.split(r"[^A-Za-z]", trap.lstrip('<>/-" \u202e{}=&'))[0]
    assert first in data, "the text is shown, and not dropped"


@pytest.mark.parametrize("trap", TRAPS)
def test_an_exported_line_is_one_line_and_holds_the_text_unchanged(trap: str, finished: Path) -> None:
    contexts, questions = read_table(finished / "contexts.parquet"), read_table(finished / "questions.parquet")
    messages = pl.lit([{"role": "user", "content": trap}], dtype=questions.schema["messages"])
    write_table(finished / "questions.parquet", questions.with_columns(messages.alias("messages")))
    write_table(finished / "contexts.parquet", contexts.with_columns(messages.alias("messages")))
    target = finished / "rows.jsonl"
    write_trl_rows(finished, target)
    lines = target.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 1
    assert all(row["prompt"][0]["content"] == trap for row in rows)
