import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import OBJECTIVES, make_summary, run_record, write_run

from hydrometer.artifacts import TABLES, build_table, write_json, write_table
from hydrometer.errors import RunFolderError
from hydrometer.report import build_report
from hydrometer.report.page import embed_json, format_interval, format_number, format_percent, format_signed

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;&amp;",
    "a\u202ebidi\u2066\u2069",
    "line\u2028separators\u2029",
    "x" * 100_000,
    "😀👩\u200d👩\u200d👧",
    "\ufffd\x00\x1b[31m",
    "]]><!--",
    "{{ 7 * 7 }}{% raw %}",
    "\"'`",
)


class Elements(HTMLParser):
    """Counts elements and collects text, attributes and the content of scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        else:
            self.text.append(data)


def parse(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    elements.close()
    return elements


def token_data(page: str) -> dict[str, Any]:
    return json.loads(parse(page).scripts[0])


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    path = build_report(run_folder)
    assert path == run_folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_answers_first_and_shows_every_arm(page: str):
    text = " ".join(" ".join(parse(page).text).split())
    assert text.index("Train with expert, ") < text.index("Pooled cosine") < text.index("Correct against incorrect")
    assert "within 0.02 of the best arm: 0.970" in text
    assert "difference +0.05" in text
    assert "against no teacher: 1 test, 1 below 0.05 after Holm's correction" in text
    assert "attenuated by noise at 62 visits" in text
    for name in ("expert", "self+answer", "self+wrong_answer", "twin", "no teacher"):
        assert name in text
    assert "same direction: sampled_token, k2" in text
    assert "no value: the objective asks this teacher for no change here" in text
    assert "first-order at today's student" in text
    assert "Only 6 questions" in text
    assert "81,234" in text
    assert "wall time, seconds 71.25" in text
    assert "95 % on these questions only" in text


def test_the_page_needs_nothing_from_outside(page: str):
    elements = parse(page)
    for tag, attributes in elements.found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "url(" not in page


def test_only_the_pages_own_script_may_run(page: str):
    policy = next(
        a["content"] for t, a in parse(page).found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    scripts = parse(page).scripts
    assert len(scripts) == 2
    assert f"'sha256-{base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()}'" in policy


def test_hostile_text_stays_text(tmp_path: Path):
    tables = write_run(
        tmp_path, questions=1, paths=2, tokens=30, words=HOSTILE, teachers={HOSTILE[0]: 1.0, HOSTILE[3]: -1.0}
    )
    summary = make_summary(tables)
    summary["warnings"] = list(HOSTILE)
    summary["recommendation"]["sentence"] = HOSTILE[0]
    write_json(tmp_path / "summary.json", summary)
    record = run_record()
    record["config"]["note"] = {HOSTILE[1]: HOSTILE[0], "lone": "\ud800"}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    prompts = tables["questions"].with_columns(prompt=pl.lit("".join(HOSTILE)), answer=pl.lit(HOSTILE[0]))
    write_table(tmp_path / "questions.parquet", prompts)

    page = build_report(tmp_path).read_text(encoding="utf-8")
    elements = parse(page)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert not set(page) & set("\u202e\u2066\u2069\u2028\u2029\x00\x1b\u200d")
    assert "49" not in "".join(elements.text).split("{{ 7 * 7 }}")[0][-5:]
    assert len(page) < 3_000_000
    data = token_data(page)
    assert ["</script><script>document.title='owned'</script>"] in data["strings"]
    assert ["a", "⟨U+202E⟩", "bidi", "⟨U+2066⟩⟨U+2069⟩"] in data["strings"]
    assert data["strings"][0] != []
    assert "⟨U+D800⟩" in page


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_json_reads_back_and_cannot_end_its_element(value: Any):
    text = embed_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set(text) & set("<>&")


def test_embedded_json_keeps_lone_surrogates():
    assert json.loads(embed_json(["\ud800", "</script>"])) == ["\ud800", "</script>"]


def test_a_run_with_nothing_in_it_still_builds(tmp_path: Path):
    for name in TABLES:
        write_table(tmp_path / f"{name}.parquet", build_table(name, []))
    write_json(tmp_path / "run.json", {"schema_version": 1})
    write_json(tmp_path / "summary.json", {"arms": [], "ranking": [], "recommendation": None})
    text = " ".join(parse(build_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "No arm could be scored" in text
    assert "No analysed response is stored" in text


def test_a_run_with_nulls_everywhere_still_builds(tmp_path: Path):
    tables = write_run(tmp_path, questions=2, paths=1, tokens=5)
    keys = {"question_id", "rollout_id", "position", "token_id", "teacher", "objective", "continuation", "kind"}
    for name, frame in tables.items():
        blank = frame.with_columns(pl.lit(None, dtype=frame.schema[c]).alias(c) for c in frame.columns if c not in keys)
        write_table(tmp_path / f"{name}.parquet", blank)
    empty = {
        "value": None,
        "plain": None,
        "n_nodes": 0,
        "n_questions": 0,
        "intervals": {"questions": None, "these_questions": None},
        "reason": "noise",
    }
    arm = {
        "teacher": "expert",
        "objective": "reverse_kl",
        "continuation": "student",
        "aliases": [],
        "reference": False,
        "measured_share": None,
    }
    splits = dict.fromkeys(("all", "correct", "incorrect"), dict.fromkeys(("pooled_cosine", "mean_cosine"), empty))
    ranking = [
        {
            "teacher": "expert",
            "objective": "reverse_kl",
            "continuation": "student",
            "score": None,
            "p_within_epsilon": None,
        }
    ]
    write_json(
        tmp_path / "summary.json",
        {"arms": [dict(arm, scores=splits)], "ranking": ranking, "recommendation": None, "tests": None},
    )
    text = " ".join(parse(build_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "no value: the measured differences in success are no larger than their sampling noise" in text


def test_an_undecided_run_says_so_and_what_it_would_cost(tmp_path: Path):
    summary = make_summary(write_run(tmp_path, questions=1, paths=1, tokens=12)) | {"recommendation": None}
    write_json(tmp_path / "summary.json", summary | {"more_tokens": 1_234_567})
    text = " ".join(" ".join(parse(build_report(tmp_path).read_text(encoding="utf-8")).text).split())
    assert "Not separated yet" in text
    assert "separate the arms: about 1,234,567" in text
    write_json(tmp_path / "summary.json", summary | {"verdict": "Not separated yet: expert leads by little."})
    text = " ".join(" ".join(parse(build_report(tmp_path).read_text(encoding="utf-8")).text).split())
    assert "Not separated yet expert leads by little." in text


@pytest.mark.parametrize(
    "name", ["run.json", "summary.json", "questions.parquet", "alignment.parquet", "token_scores.parquet"]
)
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str):
    write_run(tmp_path, questions=1, paths=1, tokens=3)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunFolderError, match=re.escape(name)):
        build_report(tmp_path)
    path.unlink()
    with pytest.raises(RunFolderError, match=re.escape(name)):
        build_report(tmp_path)


def test_a_table_without_its_columns_and_a_folder_that_is_none_are_refused(tmp_path: Path):
    tables = write_run(tmp_path, questions=1, paths=1, tokens=3)
    write_table(tmp_path / "nodes.parquet", tables["nodes"].drop("eligible", "reason"))
    with pytest.raises(RunFolderError, match="columns eligible, reason of the nodes table"):
        build_report(tmp_path)
    with pytest.raises(RunFolderError, match="not a folder"):
        build_report(tmp_path / "nowhere")


def multiply_questions(folder: Path, tables: dict[str, pl.DataFrame], copies: int) -> None:
    """Write every question of a run `copies` times under names of its own."""
    for name, frame in tables.items():
        named = [frame.with_columns(pl.col("question_id") + f"-{copy}") for copy in range(copies)]
        write_table(folder / f"{name}.parquet", pl.concat(named).sort("question_id", maintain_order=True))


def test_a_large_run_stays_below_three_megabytes_and_says_what_was_left_out(tmp_path: Path):
    teachers = {f"teacher {number}": float(number - 2) for number in range(5)}
    tables = write_run(tmp_path, questions=1, paths=4, tokens=40, teachers=teachers)
    multiply_questions(tmp_path, tables, 20)
    path = build_report(tmp_path)
    assert 1_500_000 < path.stat().st_size <= 3_000_000
    page = path.read_text(encoding="utf-8")
    data = token_data(page)
    shown = sum(len(question["paths"]) for question in data["questions"])
    assert shown + data["left_out"] == 80
    assert data["left_out"] > 0
    assert f"{data['left_out']} of 80 analysed responses were left out" in page
    assert len(data["questions"]) == 20
    assert len(data["arms"]) == 5 * len(OBJECTIVES)


def test_numbers_read_well():
    assert [format_signed(x) for x in (0.283, -0.06, 0.001, -0.001, None)] == ["+0.28", "−0.06", "0.00", "0.00", "–"]
    assert format_percent(0.416) == "42 %"
    assert format_interval([-0.1, 0.25]) == "[−0.10, +0.25]"
    assert format_interval([0.1, 0.25], "share") == "[10 %, 25 %]"
    assert format_interval(None) == ""
    assert [format_number(x) for x in (81234, 71.25, 0.5, True, None, "a")] == [
        "81,234",
        "71.25",
        "0.5",
        "yes",
        "–",
        "a",
    ]
    assert [format_number(x) for x in (120000.0, 0.000012345, -0.5)] == ["120,000", "1.234e−05", "−0.5"]
