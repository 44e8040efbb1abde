"""What `diagnose` prints when it is done (or only planned): one screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.printable import printable
from hydrometer.diagnosis.plan import Plan
from hydrometer.diagnosis.run import Diagnosis

_SHOWN_WARNINGS = 4
_REASONS = {
    "no_direction": "moves nothing wherever it was measured, as a teacher that agrees with the student does.",
    "noise": "success rates differ by no more than their sampling noise.",
    "no_unit": "the arms have an order, but noise leaves no length of the ideal direction to measure them in.",
    "no_shared_nodes": "no node was measured for every ranked arm.",
}
"""Why an arm has no score."""


def print_summary(result: Diagnosis, screen: Console) -> None:
    """Ranking with intervals, verdict, warnings, cost and where the report is."""
    summary = result.summary
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("teacher", overflow="fold")
    table.add_column("objective", overflow="fold")
    for title in ("pooled\ncosine", "95 % over\nquestions", "correct", "incorrect", "P(near\nbest)"):
        table.add_column(title, justify="right", no_wrap=True)
    arms = {(arm["teacher"], arm["objective"]): arm["scores"] for arm in summary["arms"]}
    for line in summary["ranking"]:
        scores = arms.get((line["teacher"], line["objective"]))
        cells = [_pooled(scores[split]) if scores else "" for split in ("correct", "incorrect")]
        interval = _interval(line["interval"]) if scores else ""
        objective = line["objective"] if scores else ""
        teacher = Text(printable(line["teacher"]))
        table.add_row(teacher, objective, _number(line["score"]), interval, *cells, _chance(line["p_within_epsilon"]))
    screen.print()
    screen.print(table)
    for reason, text in _REASONS.items():
        if any(line["reason"] == reason for line in summary["ranking"]):
            screen.print(f"none: {text}")
    screen.print()
    screen.print(Text(printable(summary["verdict"])))
    screen.print(Text(printable(_against_no_teacher(summary))))
    for line in _tilts(summary):
        screen.print(Text(printable(line)))
    for warning in summary["warnings"][:_SHOWN_WARNINGS]:
        screen.print(Text(printable(f"- {warning}"), style="yellow"))
    if len(summary["warnings"]) > _SHOWN_WARNINGS:
        screen.print(Text(f"- {len(summary['warnings']) - _SHOWN_WARNINGS} more warnings are in the report."))
    cost = summary["cost"]
    screen.print(
        f"\nCost: {cost['rollouts']:,} rollouts, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens, {cost['wall_s']:.0f} s."
    )
    screen.print(Text(printable(f"Report: {result.folder / 'report.html'}")), soft_wrap=True)


def print_plan(plan: Plan, screen: Console) -> None:
    """The estimate of `--dry-run`, and what it rests on."""
    screen.print(
        f"Expected: {plan.rollouts:,} rollouts, {plan.generated_tokens:,} generated and {plan.scored_tokens:,} scored "
        f"tokens,\nabout {_duration(plan.seconds)} on this machine, {plan.memory_bytes / 2**30:.1f} GiB of memory.\n"
        f"Measured on {plan.probed_rollouts} rollouts of {plan.probed_questions} questions just now; branches pass "
        "later nodes too, so the true number is usually lower."
    )


def _against_no_teacher(summary: Mapping[str, Any]) -> str:
    """Which ranked arms' intervals leave out 0, the score of no teacher."""
    sides: dict[str, list[str]] = {"better": [], "worse": []}
    for line in summary["ranking"]:
        interval = line["interval"]
        if interval and (interval[0] > 0 or interval[1] < 0):
            sides["better" if interval[0] > 0 else "worse"].append(f"{line['teacher']} ({line['objective']})")
    if not any(sides.values()):
        return "No arm's 95 % interval leaves out 0: none is separated from no teacher yet."
    return "\n".join(
        f"Each {side} than no teacher at 95 %: {', '.join(names)}." for side, names in sides.items() if names
    )


def _tilts(summary: Mapping[str, Any]) -> list[str]:
    """What tilting whole responses towards each teacher would do first, where responses were scored."""
    rows = summary["analyses"]["sequence_tilt"]
    if not rows:
        return []
    lines = ["Change of the success rate per unit of tilt of whole responses towards a teacher (95 % over questions):"]
    for row in rows:
        value, auroc = row["derivative"], row["auroc"]["value"]
        order = "none" if auroc is None else f"{auroc:.2f}"
        derivative = f"{_number(value['value'])} {_interval(value['interval'])}"
        lines.append(f"  {row['teacher']}: {derivative}, AUROC of its log-ratio {order}")
    return lines


def _number(value: float | None) -> str:
    return f"{value:+.3f}" if value is not None else "none"


def _interval(bounds: Sequence[float] | None) -> str:
    return f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else "none"


def _pooled(metrics: Mapping[str, Any]) -> str:
    return _number(metrics["pooled_cosine"]["value"])


def _chance(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
