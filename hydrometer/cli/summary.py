"""What `diagnose` prints when it is done (or only planned): one screen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.diagnosis.plan import Plan
from hydrometer.diagnosis.run import Diagnosis

_SHOWN_WARNINGS = 4


def print_summary(result: Diagnosis, screen: Console) -> None:
    """Ranking with intervals, verdict, warnings, cost and where the report is."""
    summary = result.summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("teacher", "left"), ("objective", "left"), ("pooled cosine", "right")):
        table.add_column(title, justify=justify, overflow="fold")
    for title in ("95 % over questions", "correct", "incorrect", "P(within eps)"):
        table.add_column(title, justify="right")
    arms = {(arm["teacher"], arm["objective"]): arm["scores"] for arm in summary["arms"]}
    for line in summary["ranking"]:
        scores = arms.get((line["teacher"], line["objective"]))
        cells = [_pooled(scores[split]) if scores else "" for split in ("correct", "incorrect")]
        interval = _interval(scores["all"]["pooled_cosine"]) if scores else ""
        objective = line["objective"] if scores else ""
        score = _number(line["score"], line["reason"])
        table.add_row(Text(line["teacher"]), objective, score, interval, *cells, _chance(line["p_within_epsilon"]))
    screen.print()
    screen.print(table)
    screen.print()
    screen.print(Text(summary["verdict"]))
    for warning in summary["warnings"][:_SHOWN_WARNINGS]:
        screen.print(Text(f"- {warning}", style="yellow"))
    if len(summary["warnings"]) > _SHOWN_WARNINGS:
        screen.print(Text(f"- {len(summary['warnings']) - _SHOWN_WARNINGS} more warnings are in the report."))
    cost = summary["cost"]
    screen.print(
        f"\nCost: {cost['rollouts']:,} rollouts, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens, {cost['wall_s']:.0f} s."
    )
    screen.print(Text(f"Report: {result.folder / 'report.html'}"), soft_wrap=True)


def print_plan(plan: Plan, screen: Console) -> None:
    """The estimate of `--dry-run`, and what it rests on."""
    screen.print(
        f"Expected: {plan.rollouts:,} rollouts, {plan.generated_tokens:,} generated and {plan.scored_tokens:,} scored "
        f"tokens,\nabout {_duration(plan.seconds)} on this machine, {plan.memory_bytes / 2**30:.1f} GiB of memory.\n"
        f"Measured on {plan.probed_rollouts} rollouts of {plan.probed_questions} questions just now; branches pass "
        "later nodes too, so the true number is usually lower."
    )


def _number(value: float | None, reason: str | None) -> str:
    return f"{value:+.3f}" if value is not None else f"none ({reason})"


def _interval(entry: Mapping[str, Any]) -> str:
    bounds = entry["intervals"]["questions"]
    return f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else "none"


def _pooled(metrics: Mapping[str, Any]) -> str:
    return _number(metrics["pooled_cosine"]["value"], metrics["pooled_cosine"]["reason"])


def _chance(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
