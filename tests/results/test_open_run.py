"""A run read from its folder says what its files say, whatever kind of run it was."""

import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

import hydrometer
from hydrometer.errors import RunFolderError, UnknownNameError
from hydrometer.results import Diagnosis, Training


def test_the_ranking_is_that_of_the_summary(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    entries = json.loads((small_diagnosis / "summary.json").read_text())["ranking"]
    assert isinstance(run, Diagnosis)
    assert run.ranking["teacher"].to_list() == [entry["teacher"] for entry in entries]
    assert run.ranking["place"].to_list() == [1, 2, 3]
    assert run.ranking["score"].to_list() == [entry["score"] for entry in entries]
    ends = [entry["interval"] or [None, None] for entry in entries]
    assert list(map(list, run.ranking.select("low", "high").iter_rows())) == ends
    assert run.ranking.filter(teacher="no teacher")["low"].to_list() == [None]


def test_a_continuation_counts_its_own_places(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    assert isinstance(run, Diagnosis)
    ahead = [entry | {"continuation": "expert"} for entry in run.summary["ranking"]]
    both = Diagnosis(run.folder, {**run.summary, "ranking": [*run.summary["ranking"], *ahead]})
    assert both.ranking["place"].to_list() == [1, 2, 3, 1, 2, 3]


def test_a_run_of_an_older_version_was_continued_by_the_student(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    assert isinstance(run, Diagnosis)
    older = {
        name: [{key: value for key, value in entry.items() if key != "continuation"} for entry in run.summary[name]]
        for name in ("ranking", "arms")
    }
    found = Diagnosis(run.folder, {**run.summary, **older})
    assert found.ranking.equals(run.ranking)
    assert found.scores.equals(run.scores)


def test_scores_are_found_by_arm_split_and_name(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    assert isinstance(run, Diagnosis)
    [arm] = [arm for arm in run.summary["arms"] if arm["teacher"] == "self+answer"]
    entry = arm["scores"]["incorrect"]["mean_advantage"]
    [row] = run.scores.filter(teacher="self+answer", split="incorrect", score="mean_advantage").to_dicts()
    assert row["value"] == entry["value"]
    assert [row["these_low"], row["these_high"]] == entry["intervals"]["these_questions"]
    assert row["n_nodes"] == entry["n_nodes"]
    assert not run.scores.select("teacher", "objective", "continuation", "split", "score").is_duplicated().any()


def test_tables_are_read_at_once_or_lazily(small_diagnosis: Path):
    run = hydrometer.open_run(str(small_diagnosis))
    assert isinstance(run, Diagnosis)
    whole = run.table("alignment")
    lazy = run.scan("alignment").filter(pl.col("teacher") == "expert").select("question_id", "cosine").collect()
    assert lazy.equals(whole.filter(teacher="expert").select("question_id", "cosine"))
    assert whole["cosine"].drop_nulls().abs().max() <= 1.0  # pyright: ignore[reportOptionalOperand]
    assert list(whole.to_pandas().columns) == whole.columns
    with pytest.raises(UnknownNameError, match="Did you mean candidates"):
        run.table("candidate")


def test_a_missing_table_is_told_when_it_is_asked_for(tmp_path: Path, small_diagnosis: Path):
    for name in ("run.json", "summary.json"):
        (tmp_path / name).write_bytes((small_diagnosis / name).read_bytes())
    run = hydrometer.open_run(tmp_path)
    assert isinstance(run, Diagnosis)
    for read in (run.table, run.scan):
        with pytest.raises(RunFolderError, match=r"nodes\.parquet is missing"):
            read("nodes")
    (tmp_path / "nodes.parquet").write_bytes(b"not parquet")
    with pytest.raises(RunFolderError, match="damaged"):
        run.scan("nodes")


class _Cells(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_notebook_shows_answer_and_ranking(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    assert isinstance(run, Diagnosis)
    page = _Cells(run._repr_html_())
    first = run.ranking.row(0, named=True)
    assert f": {run.verdict}" in page.texts
    assert f"{first['score']:+.3f}" in page.texts
    assert f"[{first['low']:+.3f}, {first['high']:+.3f}]" in page.texts


def test_a_notebook_shows_hostile_names_as_text(small_diagnosis: Path):
    run = hydrometer.open_run(small_diagnosis)
    assert isinstance(run, Diagnosis)
    hostile = "<script>alert(1)</script>&amp;\u202e<b onclick=x>"
    lines = [{**line, "teacher": hostile} for line in run.summary["ranking"]] * 5
    summary = {**run.summary, "ranking": lines, "verdict": hostile}
    page = _Cells(Diagnosis(run.folder, summary)._repr_html_())
    assert page.tags == {"div", "p", "b", "table", "thead", "tr", "th", "tbody", "td", "code"}
    shown = hostile.replace("\u202e", "⟨U+202E⟩")
    assert page.texts.count(shown) == 12
    assert "and 3 more arms in " in page.texts


def test_what_a_run_returns_is_what_its_folder_returns(small_training: Path):
    run = hydrometer.open_run(small_training)
    assert isinstance(run, Training)
    lines = [json.loads(line) for line in (small_training / "metrics.jsonl").read_text().splitlines()]
    assert run.metrics["loss"].to_list() == [line["loss"] for line in lines]
    assert run.metrics["step"].to_list() == [1, 2, 3]
    assert run.table("evaluation")["step"].unique().sort().to_list() == [0, 3]
    assert run.alarms.is_empty()
    assert run.alarms.columns == ["name", "step", "value", "threshold", "metrics", "mechanism", "cure"]


def test_alarms_come_back_as_rows_also_those_of_older_versions(tmp_path: Path, small_training: Path):
    for name in ("run.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((small_training / name).read_bytes())
    told = {"name": "repetition", "step": 2, "value": 0.4, "threshold": 0.14, "mechanism": "It loops.", "cure": "Stop."}
    newer = told | {"step": 3, "metrics": ["repeat_ratio"]}
    (tmp_path / "alarms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (told, newer)))
    run = hydrometer.open_run(tmp_path)
    assert isinstance(run, Training)
    assert run.alarms.to_dicts() == [told | {"metrics": None}, newer]


def test_a_training_that_goes_on_can_be_watched(tmp_path: Path, small_training: Path):
    (tmp_path / "run.json").write_bytes((small_training / "run.json").read_bytes())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    run = hydrometer.open_run(tmp_path)
    assert isinstance(run, Training)
    assert run.metrics.to_dicts() == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]
    assert run.summary == {}


def test_evaluations_and_probes_come_back_as_they_were(tmp_path: Path):
    made = hydrometer.evaluate(out=tmp_path / "evaluated", questions=2, samples=2)
    found = hydrometer.open_run(tmp_path / "evaluated")
    assert isinstance(found, hydrometer.Evaluation)
    assert found.accuracy == made.accuracy
    assert found.table.equals(made.table)
    asked = hydrometer.probe("pattern", teacher="expert=bundled:expert", questions=2, out=tmp_path / "probed")
    again = hydrometer.open_run(tmp_path / "probed")
    assert isinstance(again, hydrometer.Probe)
    assert again.summary == asked.summary
    assert again.tables.keys() == asked.tables.keys()
    assert all(again.tables[name].equals(table) for name, table in asked.tables.items())


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"run\.json is missing"):
        hydrometer.open_run(tmp_path)
    (tmp_path / "summary.json").write_text('{"recipe": "cold_start"}')
    (tmp_path / "imitation").mkdir()
    (tmp_path / "imitation" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="Open one of its stages: imitation"):
        hydrometer.open_run(tmp_path)
