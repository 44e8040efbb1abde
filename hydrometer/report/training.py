"""Training runs as figures: curves from metrics.jsonl with alarms marked, and evaluations before, after and between.

Several runs lie over each other, one colour each. A curve of more than 600 steps is drawn as means of equally many
steps; metrics.jsonl has them all.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hydrometer.artifacts.metrics import Metric, find_metric
from hydrometer.report.binned import clustered_mean
from hydrometer.report.figures import Figure, Table
from hydrometer.report.numbers import format_number, format_unit
from hydrometer.report.training_files import TrainingFiles

Json = dict[str, Any]
POINTS = 600
MAIN = (
    "accuracy",
    "reverse_kl",
    "overlap_ratio",
    "response_tokens_mean",
    "truncated_share",
    "repeat_ratio",
    "student_entropy",
    "entropy_gap",
    "student_topk_mass",
    "teacher_minus_student_logprob",
    "loss",
    "gradient_norm",
)
"""Metrics whose curves stand open on the page, in order."""
_NOT_METRICS = {"step", "wall_s", "tokens"}
_UNITS = {"share": "share", "probability": "number"}
_ARROWS = {"up": " Good: up.", "down": " Good: down.", None: ""}
_EVALUATED = {
    "accuracy": ("accuracy", "share"),
    "strict_accuracy": ("accuracy, strict grading", "share"),
    "relaxed_accuracy": ("accuracy, relaxed grading", "share"),
    "parsed_share": ("responses with an answer", "share"),
    "truncated_share": ("responses cut off", "share"),
    "response_tokens": ("length of a response, tokens", "number"),
}


def metric_figures(runs: Sequence[TrainingFiles]) -> list[Figure]:
    """A figure per metric that some run has a value of; the main ones first."""
    names = dict.fromkeys(name for run in runs for row in run.metrics for name in row if name not in _NOT_METRICS)
    known = [name for name in names if any(row.get(name) is not None for run in runs for row in run.metrics)]
    ordered = [name for name in MAIN if name in known] + [name for name in known if name not in MAIN]
    return [_metric_figure(name, runs) for name in ordered]


def evaluation_figure(runs: Sequence[TrainingFiles]) -> Figure | None:
    """Before and after, by run and measure; None where no run was evaluated."""
    rows = [list(row) for run in runs for row in _before_and_after(run)]
    if not rows:
        return None
    return Figure(
        key="evaluation",
        title="Before and after",
        note="On questions that were not trained on; 95 % over questions.",
        chart={
            "kind": "intervals",
            "y": "run",
            "x": "value",
            "low": "low",
            "high": "high",
            "series": "when",
            "unit": "unit",
            "empty": "note",
        },
        columns=("measure", "run", "when", "value", "low", "high", "questions", "unit", "note"),
        rows=rows,
        filters=("measure",),
    )


def progress_figure(runs: Sequence[TrainingFiles]) -> Figure | None:
    """Accuracy at every evaluation on the way; None where there were no more than two."""
    rows = [list(row) for run in runs for row in _evaluations(run)]
    if not any(len({row[1] for row in rows if row[0] == run.name}) > 2 for run in runs):
        return None
    return Figure(
        key="evaluations",
        title="Accuracy at every evaluation",
        note="Share of correct responses on held-out questions; 95 % over questions.",
        chart={
            "kind": "lines",
            "x": "step",
            "y": "value",
            "low": "low",
            "high": "high",
            "series": "run",
            "tick": "share",
            "xLabel": "step",
            "dots": True,
        },
        columns=("run", "step", "value", "low", "high", "questions"),
        rows=rows,
    )


def alarm_table(runs: Sequence[TrainingFiles]) -> Table | None:
    """Every alarm in words; None where there was none."""
    rows = [
        (
            *((run.name,) if len(runs) > 1 else ()),
            format_number(alarm.get("step")),
            str(alarm.get("name")).replace("_", " "),
            ", ".join(alarm.get("metrics", ())) or "not recorded",
            f"{format_number(alarm.get('value'))} (threshold {format_number(alarm.get('threshold'))})",
            str(alarm.get("mechanism") or ""),
            str(alarm.get("cure") or ""),
        )
        for run in runs
        for alarm in run.alarms
    ]
    names = ("Step", "Alarm", "Seen in", "Value", "What it means", "What to do")
    return Table(("Run", *names) if len(runs) > 1 else names, rows) if rows else None


def _alarm_marks(run: TrainingFiles, metric: str) -> Iterator[Json]:
    """Alarms whose rule read the metric; those of an older version, which do not say, are on every curve."""
    for alarm in run.alarms:
        if metric not in alarm.get("metrics", (metric,)):
            continue
        name = str(alarm.get("name")).replace("_", " ")
        yield {"run": run.name, "step": alarm.get("step"), "text": f"{run.name}, step {alarm.get('step')}: {name}"}


def _metric_figure(name: str, runs: Sequence[TrainingFiles]) -> Figure:
    metric = _find(name)
    rows = [[run.name, *point] for run in runs for point in _points(run.metrics, name)]
    return Figure(
        key=f"metric-{name}",
        title=name,
        note=f"{metric.meaning}{_ARROWS[metric.better]}" if metric else "A metric that this version does not know.",
        chart={
            "kind": "lines",
            "x": "step",
            "y": "value",
            "series": "run",
            "xLabel": "step",
            "alarms": [mark for run in runs for mark in _alarm_marks(run, name)],
            "tick": _UNITS.get(metric.unit, "number") if metric else "number",
            "zero": bool(metric and metric.unit in {"share", "nats"} and all(row[2] >= 0 for row in rows)),
        },
        columns=("run", "step", "value"),
        rows=rows,
    )


def _find(name: str) -> Metric | None:
    try:
        return find_metric(name)
    except KeyError:
        return None


def _points(rows: Sequence[Json], name: str) -> Iterator[tuple[float, float]]:
    """Step and value, or means of as many steps as make at most `POINTS` of them."""
    known = [
        (row["step"], row[name])
        for row in rows
        if isinstance(row.get(name), int | float) and not isinstance(row[name], bool)
    ]
    width = math.ceil(len(known) / POINTS) or 1
    for start in range(0, len(known), width):
        part = known[start : start + width]
        yield sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part)


def _before_and_after(run: TrainingFiles) -> Iterator[tuple[Any, ...]]:
    for when in ("before", "after"):
        found = run.summary.get(when) or {}
        for key, (measure, unit) in _EVALUATED.items():
            if isinstance(found.get(key), Mapping):
                yield (measure, run.name, when, *_estimate(found[key], unit))
        for samples, entry in (found.get("pass_at") or {}).items():
            if samples != "1":
                yield (f"pass@{samples}", run.name, when, *_estimate(entry, "share"))


def _estimate(entry: Mapping[str, Any], unit: str) -> tuple[Any, ...]:
    return (
        entry.get("value"),
        entry.get("low"),
        entry.get("high"),
        entry.get("n_questions"),
        unit,
        entry.get("reason"),
    )


def _evaluations(run: TrainingFiles) -> Iterator[tuple[Any, ...]]:
    if run.evaluation is None:
        return
    correct = pl.col("correct").cast(pl.Float64).sum().alias("sum")
    sums = run.evaluation.drop_nulls("correct").group_by("step", "question_id").agg(correct, pl.len().alias("weight"))
    for (step,), rows in sorted(sums.sort("question_id").partition_by("step", as_dict=True).items()):
        weights = rows["weight"].cast(pl.Float64).to_numpy()
        yield (run.name, step, *clustered_mean(rows["sum"].to_numpy(), weights), rows.height)


def verdict(run: TrainingFiles) -> Json:
    """What the run did, in two sentences."""
    summary = run.summary
    steps = run.metrics[-1]["step"] if run.metrics else 0
    taught = " and ".join(summary.get("teachers") or run.run.get("teachers") or []) or "no teacher"
    objectives = " and ".join(summary.get("objectives") or run.run.get("objectives") or [])
    head = f"{steps:,} steps{f' of {objectives}' if objectives else ''} with {taught}"
    difference = (summary.get("comparison") or {}).get("difference") or {}
    text = "It has not ended, or was not evaluated: there is no accuracy before and after yet."
    before, after = (((summary.get(name) or {}).get("accuracy") or {}).get("value") for name in ("before", "after"))
    if before is not None and after is not None:
        text = f"Accuracy went from {format_unit(before, 'share')} to {format_unit(after, 'share')}"
        if difference.get("value") is not None:
            ends = [format_unit(difference[name], "percent_points") for name in ("low", "high")]
            text += f": {format_unit(difference['value'], 'percent_points')}, 95 % from {ends[0]} to {ends[1]}"
        text += "."
    alarms = len(run.alarms)
    told = f"{alarms} alarm{'s' if alarms != 1 else ''} on the way." if alarms else "No alarm on the way."
    return {"headline": head, "text": text, "alarms": told}
