"""`hydrometer report` compares several runs or says why not; `hydrometer advice` exports and overwrites nothing."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_runs import Command, tiny

from hydrometer.alignment import RunComparison, compare_runs
from hydrometer.alignment.advice import write_advice
from hydrometer.artifacts import build_table, read_json, read_table, write_json, write_table
from hydrometer.cli.comparison import print_comparison

QUICK = ["--no-check", "--teacher", "self+answer"]


@pytest.fixture
def pair(workplace: Path, run: Command) -> tuple[Path, Path]:
    """Two comparable runs of the same questions."""
    for name, seed in (("a", "0"), ("b", "1")):
        assert run(["diagnose", *tiny(seed=seed), *QUICK, "--out", name]).code == 0
    return workplace / "a", workplace / "b"


def test_several_runs_are_compared_and_each_report_is_rebuilt(pair: tuple[Path, Path], run: Command) -> None:
    for folder in pair:
        (folder / "report.html").unlink()
    said = run(["report", "a", "b"])
    assert said.code == 0
    assert all((folder / "report.html").is_file() for folder in pair)
    expected = compare_runs(["a", "b"])
    for row in expected.differences.iter_rows(named=True):
        cell = "no score" if row["value"] is None else f"{row['value']:+.3f}"
        line = next(
            line
            for line in said.out.splitlines()
            if line.startswith("B - A") and row["teacher"] in line and row["objective"] in line
        )
        assert cell in line
    assert f"of {expected.interactions.height} interactions" in said.out
    printed = run(["report", "a", "b", "--json"])
    found = json.loads(printed.out)
    assert found["reports"] == ["a/report.html", "b/report.html"]
    assert found["reason"] is None
    assert found["comparison"] == {name: table.to_dicts() for name, table in expected._asdict().items()}
    assert "Student x context" in printed.err
    assert found["page"] == "comparison.html"
    assert 'data-figure="compared-scores"' in Path("comparison.html").read_text(encoding="utf-8")
    assert run(["report", "a", "b", "--out", "both.html"]).code == 0
    assert Path("both.html").read_bytes() == Path("comparison.html").read_bytes()
    refused = run(["report", "a", "--out", "both.html"])
    assert refused.code == 2
    assert "two or more run folders" in refused.err


def test_runs_that_differ_say_in_what_and_their_reports_are_rebuilt(workplace: Path, run: Command) -> None:
    for name, visits in (("a", "6"), ("b", "7")):
        assert run(["diagnose", *tiny(visits=visits, min_visits=visits), *QUICK, "--out", name]).code == 0
        (workplace / name / "report.html").unlink()
    said = run(["report", "a", "b"])
    assert said.code == 0
    assert "Not compared. These runs cannot be compared" in said.out
    assert "min_visits: 7 instead of 6 (b)" in said.out
    assert (workplace / "b" / "report.html").is_file()
    found = json.loads(run(["report", "a", "b", "--json"]).out)
    assert found["comparison"] is None
    assert "min_visits" in found["reason"]
    assert found["page"] is None
    [alone] = json.loads(run(["report", "a", "--json"]).out).values()
    assert alone == ["a/report.html"]


def interaction(low: float | None, high: float | None) -> dict[str, Any]:
    value = None if low is None or high is None else (low + high) / 2
    keys = {"run_1": "x", "run_2": "y", "teacher": f"t{low}", "against": "u", "objective": "o"}
    return keys | {"value": value, "low": low, "high": high, "n_questions": 9, "reason": None if value else "no_score"}


def test_interactions_beyond_0_are_shown_beside_how_many_chance_would_give(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    bounds = [(0.1, 0.3), (-0.4, -0.2), (None, None), *[(-0.1, 0.2)] * 38]
    rows = [interaction(low, high) for low, high in bounds]
    scores = pl.DataFrame(
        [
            {"run": run, "student": run, "teacher": "t", "objective": "o", "value": 0.1, "low": None, "high": None}
            for run in "xy"
        ]
    )
    comparison = RunComparison(scores, pl.DataFrame(rows[:1]), pl.DataFrame(rows, infer_schema_length=None))
    print_comparison(comparison, Console(width=100, highlight=False))
    out = " ".join(capsys.readouterr().out.split())
    assert "of 41 interactions 40 have an interval and 2 of these leave out 0; about 2.0 would by chance" in out
    shown = out.split("further ahead")[1]
    assert "+0.200 [+0.100, +0.300]" in shown
    assert "-0.300 [-0.400, -0.200]" in shown
    assert "t-0.1" not in shown
    assert "+0.100 no interval" in out


@pytest.fixture
def advised(workplace: Path, run: Command) -> Path:
    """A run whose advice says something, with one prefix that two paths disagree on."""
    assert run(["diagnose", *tiny(), "--no-check", "--out", "out"]).code == 0
    summary = read_json(workplace / "out" / "summary.json")
    summary["recommendation"] = None
    write_json(workplace / "out" / "summary.json", summary)
    node = {"continuation": "student", "teacher": "good", "objective": "reverse_kl", "token_id": 1, "weight": 1.0}
    node |= {"predicted_signal": 0.1, "predicted_error": 0.01, "question_id": "q0"}
    rows = [
        node | {"rollout_id": 0, "position": 0, "prefix_ids": [], "advice": "train"},
        node | {"rollout_id": 1, "position": 0, "prefix_ids": [], "advice": "skip"},
        node | {"rollout_id": 0, "position": 1, "prefix_ids": [1], "advice": "train"},
        node | {"rollout_id": 0, "position": 2, "prefix_ids": [1, 1], "advice": "undecided"},
        node | {"rollout_id": 0, "position": 3, "prefix_ids": [1, 1, 1], "advice": "skip"},
    ]
    write_table(workplace / "out" / "advice.parquet", build_table("advice", rows))
    return workplace / "out"


def test_exports_are_written_and_what_is_left_out_is_told(advised: Path, run: Command) -> None:
    said = run(["advice", "out", "--trl", "rows.jsonl", "--parquet", "nodes.parquet"])
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert "rows.jsonl: 6 questions, 0 questions left out." in said.out
    assert "6 with good (leading)" in said.out
    assert read_table(Path("nodes.parquet"))["prefix_ids"].to_list() == [[1], [1, 1, 1]]
    assert "nodes.parquet: 2 rows of 5 measured nodes." in said.out
    assert "1 left out: undecided" in said.out
    assert "2 left out: the same prefix on another path" in said.out
    assert write_advice(advised, Path("again.parquet")).height == 2
    summary = read_json(advised / "summary.json")
    assert " ".join(summary["analyses"]["advice"]["sentence"].split()) in " ".join(said.out.split())


def test_skipped_questions_are_counted_by_reason(advised: Path, run: Command) -> None:
    contexts = read_table(advised / "contexts.parquet").with_columns(
        skipped=pl.col("question_id").is_in(["q1", "q2"]),
        reason=pl.when(pl.col("question_id").is_in(["q1", "q2"])).then(pl.lit("the question has no answer")),
    )
    write_table(advised / "contexts.parquet", contexts)
    said = run(["advice", "out", "--trl", "rows.jsonl"])
    assert "rows.jsonl: 4 questions, 2 questions left out." in said.out
    assert "2 left out: teacher 'good': the question has no answer" in said.out


def test_nothing_is_overwritten_unless_asked(advised: Path, run: Command) -> None:
    Path("there.parquet").write_text("mine")
    said = run(["advice", "out", "--trl", "new.jsonl", "--parquet", "there.parquet"])
    assert said.code == 2
    assert "--parquet there.parquet exists already" in said.err
    assert Path("there.parquet").read_text() == "mine"
    assert not Path("new.jsonl").exists(), "both are looked at before one is written"
    assert run(["advice", "out", "--parquet", "there.parquet", "--overwrite"]).code == 0
    assert read_table(Path("there.parquet")).height == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere/run.json is missing"),
        (["out", "--trl", "out"], "--trl out is a folder"),
        (["out", "--trl", "no/where.jsonl"], "there is no folder no"),
        (["out", "--trl", "x", "--parquet", "x"], "--trl and --parquet name the same file, x"),
    ],
)
def test_what_cannot_be_exported_is_told(advised: Path, run: Command, arguments: list[str], words: str) -> None:
    said = run(["advice", *arguments])
    assert said.code == 2
    assert words in " ".join(said.err.split())


def test_without_a_file_nothing_is_written(advised: Path, run: Command) -> None:
    before = sorted(Path().iterdir())
    said = run(["advice", "out"])
    assert said.code == 0
    assert "Nothing was written." in said.out
    assert sorted(Path().iterdir()) == before
