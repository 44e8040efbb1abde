"""The study's tables in Markdown.

Differences are paired by question and seed; intervals are 95 %, for other seeds and other questions. A metric is shown
at the first step and as its mean over the last five steps, with the lowest and highest seed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.study_arms import ARMS, DONE
from benchmarks.study_parts import PARTS, Part
from benchmarks.study_results import (
    Change,
    after,
    before,
    checked_change,
    count_alarms,
    estimate_accuracy,
    estimate_recovery,
    metric_change,
    read_costs,
    reference_change,
    seeds_of,
    teacher_shares,
)
from hydrometer.artifacts import read_json
from hydrometer.evaluation.comparison import pool_seeds
from hydrometer.evaluation.wording import percent, points

NOTHING = ""
COSTS = "costs"


_PLACE = re.compile(r"(?<=<!-- study: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def fill_document(text: str, out: Path) -> str:
    """The document with its tables made anew, between `<!-- study: NAME -->` and `<!-- end -->`."""

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        found = describe_costs(out) if name == COSTS else describe_part(out, name)
        return f"{name}{place[2]}{found}\n"

    return _PLACE.sub(fill, text)


def describe_part(out: Path, name: str) -> str:
    """One part, over the seeds that are there, and what the probe says of its contexts."""
    part = PARTS[name]
    tables = [_describe_arms(out, part)]
    if part.aggregated:
        tables.append(_describe_aggregation(out, part.aggregated))
    return "\n\n".join(filter(None, tables))


def _describe_arms(out: Path, part: Part) -> str:
    head = ["arm", "seeds", "teacher", "before", "after", "difference", *part.shown]
    rows = [_row(out, arm, part) for arm in part.arms if seeds_of(out, arm)]
    return markdown_table(head, rows)


def _row(out: Path, arm: str, part: Part) -> list[str]:
    seeds = seeds_of(out, arm)
    teacher = teacher_shares(out, arm)
    return [
        f"`{arm}`",
        str(len(seeds)),
        NOTHING if teacher is None else f"{100 * teacher.mean():.1f} %",
        f"{100 * before(out, arm, seeds).mean():.1f} %",
        percent(estimate_accuracy(after(out, arm, seeds)).describe()),
        _difference(out, arm, part.arms[arm]),
        *(_OWN[name](out, arm) if name in _OWN else _metric(out, arm, name) for name in part.shown),
    ]


def _difference(out: Path, arm: str, against: str) -> str:
    """After training, to the arm that it is compared with, over the seeds that both have."""
    seeds = [seed for seed in seeds_of(out, arm) if against and seed in seeds_of(out, against)]
    if not seeds:
        return NOTHING
    pooled = pool_seeds(after(out, arm, seeds) - after(out, against, seeds))
    return f"{points(pooled.both.describe())} to `{against}`"


def _recovery(out: Path, arm: str) -> str:
    teacher = teacher_shares(out, arm)
    if teacher is None:
        return NOTHING
    seeds = seeds_of(out, arm)
    return percent(estimate_recovery(before(out, arm, seeds), after(out, arm, seeds), teacher).describe())


def _checked(out: Path, arm: str) -> str:
    return _change(checked_change(out, arm, seeds_of(out, arm)))


def _reference(out: Path, arm: str) -> str:
    return _change(reference_change(out, arm, seeds_of(out, arm)))


def _alarms(out: Path, arm: str) -> str:
    rung = count_alarms(out, arm, seeds_of(out, arm))
    return ", ".join(f"{name} {count}" for name, count in sorted(rung.items()))


_OWN: Mapping[str, Callable[[Path, str], str]] = {
    "gap_recovery": _recovery,
    "checked_steps": _checked,
    "says_reference": _reference,
    "alarms": _alarms,
}
"""Columns that are not metrics of a step."""


def _metric(out: Path, arm: str, name: str) -> str:
    return _change(metric_change(out, arm, seeds_of(out, arm), name))


def _change(found: Change) -> str:
    if np.isnan(found.end):
        return NOTHING
    spread = f" ({_number(found.lowest)} to {_number(found.highest)})" if found.lowest < found.highest else ""
    return f"{_number(found.start)} → {_number(found.end)}{spread}"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _describe_aggregation(out: Path, arms: Sequence[str]) -> str:
    """What the probe `aggregation` says of the contexts of these arms."""
    if not (out / "aggregation" / DONE).exists():
        return NOTHING
    teachers = read_json(out / "aggregation" / DONE)["teachers"]
    rows = []
    for arm in arms:
        found = teachers[str(ARMS[arm].options["teacher"][0]).partition("=")[0]]
        cells = [_nats(found[key]) for key in ("disagreement", "student_kl")]
        rows.append([f"`{arm}`", str(found["disagreement"]["n_questions"]), *cells])
    return markdown_table(["teacher's context", "questions", "-log Z, nats per token", "mean KL of the student"], rows)


def _nats(entry: dict[str, float]) -> str:
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def describe_costs(out: Path) -> str:
    """CPU of the whole study."""
    seconds = [line["cpu_s"] for line in read_costs(out)]
    if not seconds:
        return "No costs are noted."
    total = sum(seconds) / 60
    return (
        f"{len(seconds)} runs, evaluations and probes, {total:.0f} CPU minutes; the longest took {max(seconds):.0f} s."
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
