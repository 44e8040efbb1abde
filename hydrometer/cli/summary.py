"""What `diagnose` prints when it is done (or only planned): one screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.closing import count_of, fitting, lines_left, print_report, told_of_cache, warning_texts
from hydrometer.cli.marks import draw_interval
from hydrometer.cli.printable import printable
from hydrometer.diagnosis.plan import Plan
from hydrometer.results import Diagnosis
from hydrometer.results.ranking import first_ranking
from hydrometer.types import NO_TEACHER, STUDENT

_FEWEST_ARMS, _MOST_ARMS = 4, 12
"""Lines of the ranking, `no teacher` among them."""
_MOST_TILTS = 1
_TABLE_HEAD = 2
_BLANKS_AND_REPORT = [Text("")] * 4
_NUMBERS, _SPLITS = 32, 18
"""Characters that the numbers of an arm take, and those of correct and of incorrect paths."""
_LEGIBLE = 20
"""Characters of a teacher's name that tell it from others."""
_MARK_WIDTH = 21
_WIDE = 110
"""Columns of a terminal that has room for pictures of the intervals."""
_ARM = ("teacher", "objective", "continuation")
_REASONS = {
    "no_direction": "moves nothing wherever it was measured, as a teacher that agrees with the student does.",
    "noise": "success rates differ by no more than their sampling noise.",
    "no_unit": "the arms have an order, but noise leaves no length of the ideal direction to measure them in.",
    "no_shared_nodes": "no node was measured for every ranked arm.",
}
"""Why an arm has no score."""


def print_summary(result: Diagnosis, screen: Console) -> None:
    """Ranking with intervals, verdict, warnings, cost and where the report is: a screen of it on a terminal."""
    summary = result.summary
    tilts = _tilts(summary, _MOST_TILTS if screen.is_terminal else None)
    ranking = first_ranking(summary["ranking"])
    said = [
        summary["verdict"],
        _against_no_teacher(ranking),
        *summary["harms"][:1],
        *_second_ranking(summary["ranking"]),
        *([summary["confirm"]] if summary["confirm"] else []),
        *tilts,
    ]
    answer = [Text(printable(line)) for line in said]
    answer += [Text(f"none: {why}") for why in _reasons(ranking)]
    cost = Text(_cost(summary["cost"]))
    room = lines_left(screen, [*answer, cost, *_BLANKS_AND_REPORT])
    rows = _MOST_ARMS if room is None else max(_FEWEST_ARMS, min(_MOST_ARMS, room - _TABLE_HEAD - 1))
    shown = _shown(ranking, rows)
    table = _ranking_table(summary, shown, screen.width)
    warnings = warning_texts([*summary["harms"][1:], *summary["warnings"]])
    told = fitting(screen, warnings, lines_left(screen, [*answer, cost, *_BLANKS_AND_REPORT, table]))
    screen.print()
    screen.print(table)
    screen.print()
    for line in (*answer, *told):
        screen.print(line)
    left = {"arm": len(ranking) - len(shown), "warning": len(warnings) - len(told)}
    if any(left.values()):
        rest = " and ".join(count_of(number, f"more {noun}") for noun, number in left.items() if number)
        screen.print(Text(f"In the report: {rest}.", style="yellow" if left["warning"] else ""))
    screen.print()
    screen.print(cost)
    print_report(result.folder, screen)


def print_plan(plan: Plan, screen: Console) -> None:
    """The estimate of `--dry-run`, and what it rests on."""
    screen.print(
        f"Expected: {plan.rollouts:,} rollouts, {plan.generated_tokens:,} generated and {plan.scored_tokens:,} scored "
        f"tokens,\nabout {_duration(plan.seconds)} on this machine, {plan.memory_bytes / 2**30:.1f} GiB of memory.\n"
        f"Measured on {plan.probed_rollouts} rollouts of {plan.probed_questions} questions just now; branches pass "
        "later nodes too, so the true number is usually lower."
    )
    if list(plan.continued_by) != [STUDENT]:
        parts = ", ".join(f"{count:,} by {name}" for name, count in plan.continued_by.items())
        screen.print(f"Of these rollouts are continued after a forced token, or from a teacher's prompt: {parts}.")


def _ranking_table(summary: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], width: int) -> Table:
    """A line per arm; the intervals as a picture, and correct and incorrect paths, where the terminal has room."""
    room = width - _NUMBERS
    is_drawn = width >= _WIDE and any(line["interval"] for line in shown)
    room -= is_drawn * (_MARK_WIDTH + 1)
    teacher, objective = (max(len(printable(line[name])) for line in shown) for name in ("teacher", "objective"))
    # branches lie at a few nodes only where paths are ranked by their outcomes: too few to tell splits apart
    is_split = summary["ranked_by"] != "outcomes" and room >= _SPLITS + min(teacher, _LEGIBLE) + objective
    room -= is_split * _SPLITS
    objective = min(objective, max(room - teacher, room - _LEGIBLE))
    splits = ("correct", "incorrect") if is_split else ()
    ends = [end for line in shown for end in line["interval"] or ()]
    axis = (min([*ends, 0.0]), max([*ends, 0.0]))
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for title, widest in (("teacher", room - objective), ("objective", objective)):
        table.add_column(title, no_wrap=True, overflow="ellipsis", max_width=widest)
    for title in ("pooled\ncosine", "95 % over\nquestions"):
        table.add_column(title, justify="right", no_wrap=True)
    if is_drawn:
        table.add_column("", no_wrap=True)
    for title in (*splits, "P(near\nbest)"):
        table.add_column(title, justify="right", no_wrap=True)
    arms = {tuple(arm[key] for key in _ARM): arm["scores"] for arm in summary["arms"]}
    for line in shown:
        scores = arms.get(tuple(line[key] for key in _ARM))
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


def _shown(ranking: Sequence[Mapping[str, Any]], rows: int) -> list[Mapping[str, Any]]:
    """The first arms, and no teacher wherever it stands."""
    first = ranking[:rows]
    if any(line["teacher"] == NO_TEACHER for line in first):
        return list(first)
    return [*first[: rows - 1], *(line for line in ranking if line["teacher"] == NO_TEACHER)]


def _second_ranking(ranking: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who leads where the student continues, where that ranking is not the one in the table."""
    second = ranking[len(first_ranking(ranking)) :]
    if not second:
        return []
    best = second[0]
    name = best["teacher"] if best["teacher"] == NO_TEACHER else f"{best['teacher']} with {best['objective']}"
    return [
        f"Above, each teacher continues by itself. Where the student does, {name} leads ({_number(best['score'])})."
    ]


def _reasons(ranking: Sequence[Mapping[str, Any]]) -> list[str]:
    return [text for reason, text in _REASONS.items() if any(line["reason"] == reason for line in ranking)]


def _cost(cost: Mapping[str, Any]) -> str:
    return (
        f"Cost: {cost['rollouts']:,} rollouts, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens{told_of_cache(cost)}, {cost['wall_s']:.0f} s."
    )


def _against_no_teacher(ranking: Sequence[Mapping[str, Any]]) -> str:
    """How many ranked arms' intervals leave out 0, the score of no teacher; those that do harm are worse."""
    arms = [line for line in ranking if line["teacher"] != NO_TEACHER]
    better = sum(not line["is_harm"] and line["interval"] is not None and line["interval"][0] > 0 for line in arms)
    worse = sum(line["is_harm"] or (line["interval"] is not None and line["interval"][1] < 0) for line in arms)
    if not better + worse:
        return "No arm's 95 % interval leaves out 0: none is separated from no teacher yet."
    return (
        f"Against no teacher at 95 %: {better} of {len(arms)} arms are better, {worse} worse, "
        f"{len(arms) - better - worse} not separated."
    )


def _tilts(summary: Mapping[str, Any], most: int | None) -> list[str]:
    """What tilting whole responses towards each teacher would do first, where responses were scored."""
    rows = summary["analyses"]["sequence_tilt"]
    if not rows:
        return []
    lines = ["Change of the success rate per unit of tilt of whole responses towards a teacher (95 % over questions):"]
    for row in rows[:most]:
        value, auroc = row["derivative"], row["auroc"]["value"]
        order = "none" if auroc is None else f"{auroc:.2f}"
        derivative = f"{_number(value['value'])} {_interval(value['interval'])}"
        lines.append(f"  {row['teacher']}: {derivative}, AUROC of its log-ratio {order}")
    left = len(rows) - len(lines) + 1
    return [*lines, f"  {count_of(left, 'more teacher')} in the report."] if left else lines


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
