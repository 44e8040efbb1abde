"""The page of several runs: what diagnoses of different students say beside each other, and training runs overlaid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrometer.report.figures import Figure, Table
from hydrometer.report.numbers import format_interval, format_signed
from hydrometer.report.training_files import TrainingFiles
from hydrometer.report.training_view import training_section
from hydrometer.report.view import Page, shown_table
from hydrometer.report.words import reason_in_words

Json = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


def build_comparison_view(
    name: str, diagnoses: Mapping[str, Rows] | None, reason: str | None, trained: Sequence[TrainingFiles]
) -> Page:
    """A page for several runs.

    Args:
        name: of the page.
        diagnoses: tables `scores`, `differences`, `interactions` of `alignment.compare_runs`; None: not compared.
        reason: why the diagnoses were not compared.
        trained: training runs.
    """
    figures: list[Figure] = []
    view: Json = {"name": name, "status": None, "reason": reason, "diagnoses": None, "training": None}
    if diagnoses is not None:
        figures += [_scores(diagnoses["scores"]), _differences(diagnoses["differences"])]
        runs = dict.fromkeys((row["run"], row["student"]) for row in diagnoses["scores"])
        view["diagnoses"] = {
            "figures": [figure.key for figure in figures],
            "runs": [[short_name(run), student] for run, student in runs],
            "interactions": shown_table(_interactions(diagnoses["interactions"])),
        }
    if trained:
        view["training"], found = training_section(trained)
        figures += found
    return Page(view, {"figures": {figure.key: figure.describe() for figure in figures}})


def short_name(run: str) -> str:
    """A folder's own name."""
    return Path(run).name or run


def _scores(rows: Rows) -> Figure:
    return Figure(
        key="compared-scores",
        title="Scores of every arm in every run",
        note="Pooled cosine corrected for noise; 95 % over questions.",
        chart=_intervals("run"),
        columns=("arm", "run", "value", "low", "high", "questions", "note"),
        rows=[[_arm(row), short_name(row["run"]), *_estimate(row)] for row in rows],
    )


def _differences(rows: Rows) -> Figure:
    return Figure(
        key="compared-differences",
        title="Differences between runs",
        note="The second run minus the first, on the same questions; 95 % over questions deleted from both at once.",
        chart=_intervals("runs"),
        columns=("arm", "runs", "value", "low", "high", "questions", "note"),
        rows=[[_arm(row), f"{short_name(row['run_2'])} − {short_name(row['run_1'])}", *_estimate(row)] for row in rows],
    )


def _intervals(series: str) -> Json:
    return {
        "kind": "intervals",
        "y": "arm",
        "x": "value",
        "low": "low",
        "high": "high",
        "series": series,
        "tick": "cosine",
        "empty": "note",
    }


def _interactions(rows: Rows) -> Table:
    """Student x context, only those whose interval leaves out 0."""
    apart = [row for row in rows if row["low"] is not None and (row["low"] > 0.0 or row["high"] < 0.0)]
    cells = [
        (
            f"{short_name(row['run_2'])} − {short_name(row['run_1'])}",
            str(row["teacher"]),
            str(row["against"]),
            str(row["objective"]),
            f"{format_signed(row['value'])} {format_interval([row['low'], row['high']])}",
        )
        for row in apart
    ]
    return Table(("Runs", "Teacher", "Against", "Objective", "How much further ahead it is"), cells)


def _arm(row: Mapping[str, Any]) -> str:
    return f"{row['teacher']}, {row['objective']}"


def _estimate(row: Mapping[str, Any]) -> tuple[Any, ...]:
    note = None if row.get("reason") is None else reason_in_words(row["reason"])
    return (row["value"], row["low"], row["high"], row.get("n_questions"), note)
