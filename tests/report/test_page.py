import base64
import functools
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import make_summary, run_record, write_run

from hydrometer.artifacts import TABLES, build_table, write_json, write_table
from hydrometer.errors import RunFolderError
from hydrometer.report import build_report
from hydrometer.report import view as view_module
from hydrometer.report.embedding import DeflatedSize, embed, extract
from hydrometer.report.numbers import format_interval, format_number, format_percent, format_signed
from hydrometer.report.paths import DATA_BYTES, build_token_view

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


def page_data(page: str) -> dict[str, Any]:
    return extract(parse(page).scripts[0])


def token_data(page: str) -> dict[str, Any]:
    return page_data(page)["tokens"]


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    path = build_report(run_folder)
    assert path == run_folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_answers_first_and_names_every_arm(page: str):
    text = " ".join(" ".join(parse(page).text).split())
    assert text.index("Train with expert, ") < text.index("The ranking in numbers") < text.index("Token by token")
    assert "within 0.02 of the best arm: 0.970" in text
    assert "against no teacher: 1 test, 1 below 0.05 after Holm's correction" in text
    assert "62 in the median" in text
    for name in ("expert", "self+answer", "self+wrong_answer", "twin", "no teacher"):
        assert name in text
    assert "same direction: sampled_token, k2" in text
    assert "first-order at today's student" in text
    assert "Only 6 questions" in text
    assert "81,234" in text
    assert "wall time, seconds 71.25" in text


def test_every_figure_has_its_place_and_its_data(page: str):
    places = [attributes["data-figure"] for tag, attributes in parse(page).found if tag == "figure"]
    figures = page_data(page)["figures"]
    assert sorted(figures) == sorted(str(place) for place in places)
    assert {"ranking", "depth", "distance"} <= set(figures)
    for figure in figures.values():
        assert all(len(row) == len(figure["columns"]) for row in figure["rows"])
        used = [figure["chart"].get(name) for name in ("y", "x", "low", "high", "series", "panel", "unit", "empty")]
        assert {name for name in used if name} <= set(figure["columns"])
        assert set(figure["filters"]) <= set(figure["columns"])


def test_the_page_needs_nothing_from_outside(page: str):
    elements = parse(page)
    for tag, attributes in elements.found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    own = page.replace(elements.scripts[1], "")
    assert "http://" not in own.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in own
    assert "url(" not in own


def test_only_the_pages_own_scripts_may_run(page: str):
    policy = next(
        a["content"] for t, a in parse(page).found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    data, *scripts = parse(page).scripts
    assert len(scripts) == 2
    assert not set(data) & set("<>&")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    assert f"script-src {allowed};" in policy


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
    assert tags.count("script") == 3
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


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_embedded_data_reads_back_and_cannot_end_its_element(value: Any):
    text = embed(value)
    assert extract(text) == value
    assert text.isascii()
    assert not set(text) & set("<>&")


def test_embedded_data_keeps_lone_surrogates():
    assert extract(embed(["\ud800", "</script>"])) == ["\ud800", "</script>"]


def test_the_counted_size_of_values_is_that_of_the_page_and_what_does_not_fit_is_refused():
    rng = random.Random(0)
    values = [[rng.random() for _ in range(200)] for _ in range(20)]
    size = DeflatedSize(30_000)
    taken = [value for value in values if size.take(value)]
    assert 5 < len(taken) < 20
    assert size.used <= 30_000
    assert len(embed(taken)) == pytest.approx(size.used, rel=0.05)
    before = size.used
    assert not size.take(values)
    assert size.used == before


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
    assert "Not separated yet" in text or "No arm could be scored" in text
    figure = page_data((tmp_path / "report.html").read_text(encoding="utf-8"))["figures"]["ranking"]
    notes = {row[figure["columns"].index("note")] for row in figure["rows"]}
    assert "the measured differences in success are no larger than their sampling noise" in notes


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


def test_the_page_leaves_room_for_as_much_token_data_as_it_may_carry(page: str):
    assert len(page) - len(embed(token_data(page))) + DATA_BYTES < 3_000_000


def test_what_was_left_out_is_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_run(tmp_path, questions=3, paths=2, tokens=20)
    whole = functools.partial(build_token_view, data_bytes=6_000)
    monkeypatch.setattr(view_module, "build_token_view", whole)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    data = token_data(page)
    shown = sum(len(question["paths"]) for question in data["questions"])
    assert 0 < shown < 6
    assert data["left_out"] == 6 - shown
    assert f"{data['left_out']} of 6 analysed responses were left out" in page
    assert len(embed(data)) < 1.2 * 6_000


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
