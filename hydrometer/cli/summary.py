"""What `diagnose` prints when it is done (or only planned): one screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.cost import told_of_cache
from hydrometer.cli.marks import draw_interval
from hydrometer.cli.printable import printable
from hydrometer.diagnosis.plan import Plan
from hydrometer.results import Diagnosis
from hydrometer.types import NO_TEACHER

_SHOWN_WARNINGS = 4
_SHOWN_ARMS = 12
_MARK_WIDTH = 21
_WIDE = 110
"""Columns of a terminal that has room for pictures of the intervals."""
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
    screen.print()
    screen.print(_ranking_table(summary, screen.width))
    hidden = len(summary["ranking"]) - len(_shown(summary["ranking"]))
    if hidden:
        screen.print(f"and {hidden} more arms, which are in the report.")
    for reason, text in _REASONS.items():
        if any(line["reason"] == reason for line in summary["ranking"]):
            screen.print(f"none: {text}")
    screen.print()
    screen.print(Text(printable(summary["verdict"])))
    screen.print(_against_no_teacher(summary))
    for line in _tilts(summary):
        screen.print(Text(printable(line)))
    for warning in summary["warnings"][:_SHOWN_WARNINGS]:
        screen.print(Text(printable(f"- {warning}"), style="yellow"))
    if len(summary["warnings"]) > _SHOWN_WARNINGS:
        screen.print(Text(f"- {len(summary['warnings']) - _SHOWN_WARNINGS} more warnings are in the report."))
    cost = summary["cost"]
    screen.print(
        f"\nCost: {cost['rollouts']:,} rollouts, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens{told_of_cache(cost)}, {cost['wall_s']:.0f} s."
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


def _ranking_table(summary: Mapping[str, Any], width: int) -> Table:
    """The first arms and no teacher; the intervals as a picture too where the terminal is wide enough."""
    # branches lie at a few nodes only where paths are ranked by their outcomes: too few to tell splits apart
    splits = () if summary["ranked_by"] == "outcomes" else ("correct", "incorrect")
    shown = _shown(summary["ranking"])
    ends = [end for line in shown for end in line["interval"] or ()]
    axis = (min([*ends, 0.0]), max([*ends, 0.0]))
    is_drawn = axis[0] < axis[1] and width >= _WIDE
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("teacher", overflow="fold")
    table.add_column("objective", overflow="fold")
    for title in ("pooled\ncosine", "95 % over\nquestions"):
        table.add_column(title, justify="right", no_wrap=True)
    if is_drawn:
        table.add_column("", no_wrap=True)
    for title in (*splits, "P(near\nbest)"):
        table.add_column(title, justify="right", no_wrap=True)
    arms = {(arm["teacher"], arm["objective"]): arm["scores"] for arm in summary["arms"]}
    for line in shown:
        scores = arms.get((line["teacher"], line["objective"]))
        interval, value = line["interval"], line["score"]
        cells = [_number(value), _interval(interval) if scores else ""]
        if is_drawn:
            cells += [_picture(interval, value, axis)]
        cells += [_pooled(scores[split]) if scores else "" for split in splits]
        teacher, objective = Text(printable(line["teacher"])), line["objective"] if scores else ""
        table.add_row(teacher, objective, *cells, _chance(line["p_within_epsilon"]))
    return table


def _picture(interval: Sequence[float] | None, value: float | None, axis: tuple[float, float]) -> str:
    if interval is None or value is None:
        return ""
    return draw_interval(interval[0], value, interval[1], axis=axis, width=_MARK_WIDTH)


def _shown(ranking: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first arms, and no teacher wherever it stands."""
    return [line for place, line in enumerate(ranking) if place < _SHOWN_ARMS or line["teacher"] == NO_TEACHER]


def _against_no_teacher(summary: Mapping[str, Any]) -> str:
    """How many ranked arms' intervals leave out 0, the score of no teacher."""
    arms = [line for line in summary["ranking"] if line["teacher"] != NO_TEACHER]
    better = sum(line["interval"] is not None and line["interval"][0] > 0 for line in arms)
    worse = sum(line["interval"] is not None and line["interval"][1] < 0 for line in arms)
    if not better + worse:
        return "No arm's 95 % interval leaves out 0: none is separated from no teacher yet."
    return (
        f"Against no teacher at 95 %: {better} of {len(arms)} arms are better, {worse} worse, "
        f"{len(arms) - better - worse} not separated."
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
