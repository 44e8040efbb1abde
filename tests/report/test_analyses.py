"""What the page says of analyses, advice and what teachers saw: values, reasons for none, limits, older folders."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from synthetic import make_summary, write_run
from test_page import parse, token_data

from hydrometer.artifacts import build_table, write_json, write_table
from hydrometer.report import build_report, build_view, read_run
from hydrometer.report.analyses import MAX_ROWS, build_advice, build_analyses, estimate
from hydrometer.report.figures import Figure
from hydrometer.report.visible import visible_ends


def known(value: float | None, interval: list[float] | None = None, reason: str | None = None) -> dict[str, Any]:
    why = None if interval else "fewer_than_5_questions"
    return {"value": value, "interval": interval, "n_questions": 8, "reason": reason, "interval_reason": why}


def accuracy(teacher: str, level: int | None, value: float) -> dict[str, Any]:
    is_baseline = teacher == "student"
    return {
        "teacher": teacher,
        "bin": level,
        "success_rate_from": 0.1,
        "success_rate_to": 0.75,
        "n_rollouts": 40,
        "n_correct": round(40 * value),
        "accuracy": known(value),
        "these_questions": [value - 0.1, value + 0.1],
        "gain": None if is_baseline else known(-0.25, [-0.4, -0.1]),
        "gain_reason": "no_baseline" if is_baseline else None,
    }


def predictor(teachers: str, *, against: list[str], clear: bool) -> dict[str, Any]:
    return {
        "objective": teachers,
        "continuation": "student",
        "response": "cosine",
        "predictor": "reverse_kl_nats",
        "method": "spearman",
        "n_teachers": 3,
        "n_teachers_positive": 3,
        "within": known(0.3, [0.2, 0.4]),
        "pooled": known(-0.2, [-0.3, -0.1]),
        "between": known(None, reason="same_for_every_teacher"),
        "contradicted_by": against,
        "clear": clear,
    }


def filtered(teacher: str) -> dict[str, Any]:
    names = ("kept_share", "mean_signal", "mean_signal_kept", "gain")
    ways = {
        way: {name: known(0.01 * factor, [0.0, 0.1]) for name in names} for way, factor in (("naive", 4), ("split", 1))
    }
    return {"teacher": teacher, "objective": "reverse_kl", "continuation": "student", **ways}


ANALYSES = {
    "in_context": [
        accuracy(teacher, level, value)
        for level in (None, 0)
        for teacher, value in (("self+wrong_answer", 0.25), ("student", 0.5))
    ],
    "across_teachers": [
        predictor("reverse_kl", against=["pooled"], clear=True),
        predictor("forward_kl", against=[], clear=False),
    ],
    "oracle_filter": [filtered("expert")],
    "sequence_tilt": [
        {
            "teacher": "expert",
            "derivative": known(0.25, [0.125, 0.375]),
            "auroc": {"value": None, "reason": "no_question_with_both_outcomes"},
            "n_rollouts": 48,
            "n_unknown": 2,
        }
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = write_run(tmp_path, questions=3, paths=2, tokens=12)
    analyses = ANALYSES | {"advice": {"sentence": "Train on 3 of 12 tokens.", "gain": known(0.02, [0.01, 0.03])}}
    write_json(
        tmp_path / "summary.json",
        make_summary(tables) | {"analyses": analyses, "candidate_set": "tokens that expert finds likely"},
    )
    return tmp_path


def page_text(folder: Path) -> str:
    return " ".join(" ".join(parse(build_report(folder).read_text(encoding="utf-8")).text).split())


def tables_of(folder: Path) -> dict[str, list[list[str]]]:
    return {figure.key: [list(row) for row in figure.table.rows] for figure in analyses_of(folder) if figure.table}


def analyses_of(folder: Path) -> list[Figure]:
    return build_analyses(read_run(folder).summary)[0]


def test_every_analysis_has_its_numbers_with_their_interval_or_reason(folder: Path) -> None:
    tables = tables_of(folder)
    wrong, student = tables["in-context"]
    assert wrong == [
        *("self+wrong_answer", "all questions", "0.10 to 0.75", "10 of 40", "25 % [15 %, 35 %]"),
        *("25 % (no interval: fewer than 5 questions)", "−25 points [−40 points, −10 points]"),
    ]
    assert student[0] == "student, no context (baseline)"
    assert student[6] == "no value: it is the baseline"
    first, second = tables["predictors"]
    assert (first[8], second[8]) == ("pooled: the other way, clearly", "no")
    assert first[6] == "no value: same for every teacher"
    assert tables["oracle-filter"][0][:3] == ["expert, reverse_kl", "+0.040 [0.000, +0.100]", "+0.010 [0.000, +0.100]"]
    assert tables["sequence-tilt"] == [
        [
            "expert",
            "+0.250 [+0.125, +0.375]",
            "no value: no question has correct and incorrect scored responses",
            "48 (2 without a sum)",
        ]
    ]
    text = page_text(folder)
    assert "Over tokens that expert finds likely." in text
    assert "Train on 3 of 12 tokens." in text
    assert "gain of the rule +0.020 [+0.010, +0.030]" in text


def test_what_is_drawn_of_an_analysis_is_what_its_table_says(folder: Path) -> None:
    figures = {figure.key: figure for figure in analyses_of(folder)}
    drawn = figures["oracle-filter"]
    assert list(drawn.columns) == ["Arm", "series", "value", "low", "high", "note"]
    assert drawn.rows == [
        ["expert, reverse_kl", "Gain, naive", 0.04, 0.0, 0.1, None],
        ["expert, reverse_kl", "Gain, split", 0.01, 0.0, 0.1, None],
    ]
    assert drawn.chart["tick"] == "rate"
    predictors = figures["predictors"]
    assert list(predictors.filters) == ["Objective", "Of", "Method"]
    assert [row[4] for row in predictors.rows if row[1] == "reverse_kl"] == ["Within", "Pooled"], "Between has no value"
    by_third = figures["in-context-by-difficulty"]
    assert [row[1:5] for row in by_third.rows] == [
        ["hardest third", 0.25, 0.15, 0.35],
        ["hardest third", 0.5, 0.4, 0.6],
    ]


def test_what_a_run_does_not_hold_gives_no_figure() -> None:
    assert build_analyses({}) == build_analyses({"analyses": {"in_context": [], "outcomes": []}}) == ([], [])
    assert build_advice({"analyses": {}}) is None
    titles = [figure.title for figure in build_analyses({"analyses": ANALYSES})[0]]
    assert titles[:2] == ["In-context accuracy", "In-context accuracy by difficulty"]
    assert len(titles) == 5


def test_rows_beyond_the_limit_are_counted(folder: Path) -> None:
    summary = read_run(folder).summary
    summary["analyses"]["oracle_filter"] = [filtered(f"t{i}") for i in range(MAX_ROWS + 7)]
    [figure] = [figure for figure in build_analyses(summary)[0] if figure.key == "oracle-filter"]
    assert figure.table is not None
    assert (len(figure.table.rows), len(figure.rows)) == (MAX_ROWS, 2 * MAX_ROWS)
    assert figure.note.endswith("7 more rows are in summary.json.")


def test_an_estimate_says_why_it_has_no_value_or_no_interval() -> None:
    assert estimate(known(None, reason="noise"), "cosine")["note"].startswith("the measured differences in success")
    assert estimate(known(0.0), "rate") == {
        "value": 0.0,
        "unit": "rate",
        "interval": None,
        "note": "no interval: fewer than 5 questions",
    }
    assert estimate(None, "rate")["note"] == "it was not computed"


def advice_rows(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """`train` at position 0, `skip` at 1 and `undecided` at 2 of the first path."""
    nodes = tables["nodes"].filter(question_id="q000", rollout_id=0).filter(pl.col("position") < 3)
    said = ["train", "skip", "undecided"]
    rows = [
        {name: row[name] for name in ("question_id", "rollout_id", "position", "continuation", "token_id")}
        | {"teacher": "expert", "objective": "reverse_kl", "prefix_ids": [], "weight": 1.0}
        | {"advice": word, "predicted_signal": 0.1 if word != "undecided" else None, "predicted_error": 0.02}
        for row, word in zip(nodes.iter_rows(named=True), said, strict=True)
    ]
    return build_table("advice", rows)


def test_advice_stands_at_its_tokens_and_an_older_folder_without_it_opens(tmp_path: Path) -> None:
    tables = write_run(tmp_path, questions=2, paths=1, tokens=6)
    write_table(tmp_path / "advice.parquet", advice_rows(tables))
    data = token_data(build_report(tmp_path).read_text(encoding="utf-8"))
    assert data["advice"] == {"names": ["train", "skip", "undecided"], "arm": "expert, reverse_kl"}
    first, second = (question["paths"][0]["nodes"] for question in data["questions"])
    assert [node.get("advice") for node in first] == [[0, 0.1, 0.02], [1, 0.1, 0.02], [2, None, 0.02], *[None] * 3]
    assert not any("advice" in node for node in second)
    (tmp_path / "advice.parquet").unlink()
    data = token_data(build_report(tmp_path).read_text(encoding="utf-8"))
    assert data["advice"]["arm"] is None
    assert not any("advice" in node for question in data["questions"] for node in question["paths"][0]["nodes"])


def test_what_each_teacher_saw_is_told_with_its_demonstrations_and_why_not(tmp_path: Path) -> None:
    tables = write_run(tmp_path, questions=2, paths=1, tokens=6)
    hostile = "</pre><script>alert(1)</script>\u202e" + "x" * 5000 + "at the end: the answer is 9"
    contexts = tables["contexts"].with_columns(
        prompt=pl.when(pl.col("teacher") == "expert").then(pl.lit(hostile)).otherwise("prompt"),
        demo_rollout_ids=pl.when(pl.col("teacher") == "expert").then(pl.lit([3, 5])).otherwise("demo_rollout_ids"),
        demos_by=pl.lit("student"),
        summariser=pl.when(pl.col("teacher") == "expert").then(pl.lit("bundled:expert")),
    )
    write_table(tmp_path / "contexts.parquet", contexts)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    question = token_data(page)["questions"][1]
    expert, skipped = question["contexts"]["expert"], question["contexts"]["self+answer"]
    assert (expert["demos"], expert["by"], expert["summariser"]) == ([3, 5], "student", "bundled:expert")
    shown = question["prompts"][expert["prompt"]]
    assert shown.startswith("</pre><script>alert(1)</script>⟨U+202E⟩xxx")
    assert shown.endswith("at the end: the answer is 9"), "where a context stands"
    assert "characters left out" in shown
    assert (skipped["prompt"], skipped["skipped"], skipped["reason"]) == (None, True, "no correct rollout to show")


def test_a_prompt_that_many_teachers_saw_stands_there_once(tmp_path: Path) -> None:
    tables = write_run(tmp_path, questions=1, paths=1, tokens=4)
    write_table(tmp_path / "contexts.parquet", tables["contexts"].with_columns(prompt=pl.lit("the same for all")))
    [question] = build_view(read_run(tmp_path)).data["tokens"]["questions"]
    assert question["prompts"] == ["the same for all"]
    assert {context["prompt"] for context in question["contexts"].values()} == {0}


def test_long_prompts_of_many_teachers_leave_room_for_responses(tmp_path: Path) -> None:
    teachers = {f"t{number}": float(number - 4) for number in range(9)}
    tables = write_run(tmp_path, questions=24, paths=1, tokens=6, teachers=teachers)
    long = pl.col("teacher") + pl.lit(" saw 😀 ") + pl.lit("wörds " * 4000)
    write_table(tmp_path / "contexts.parquet", tables["contexts"].with_columns(prompt=long))
    path = build_report(tmp_path)
    assert path.stat().st_size <= 3_000_000
    data = token_data(path.read_text(encoding="utf-8"))
    assert len(data["questions"]) == 24
    assert data["left_out"] == 0


@pytest.mark.parametrize(("text", "limit"), [("short", 5), ("0123456789", 4), ("", 3)])
def test_ends_of_a_text(text: str, limit: int) -> None:
    expected = text if len(text) <= limit else "01\n… 6 characters left out …\n89"
    assert visible_ends(text, limit) == expected
