"""Where the time of a run went: a table by stage, and the models' share of it."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from hydrometer.runs.rounds import Cost
from hydrometer.runs.stopwatch import Stopwatch

_NAMES = {
    "pilot": "pilot rollouts",
    "sample": "on-policy rollouts",
    "peer": "demonstrations by peers",
    "summary": "summaries",
    "score": "scoring paths",
    "branch": "branches",
    "rewards": "scoring responses",
    "in_context": "rollouts with contexts",
    "verdicts": "grading given rollouts",
}
"""Of kinds of rounds."""


def print_profile(stages: Mapping[str, Cost], watch: Stopwatch, screen: Console) -> None:
    """One line per stage of this sitting, and how long the models ran."""
    total = sum(cost.wall_s for cost in stages.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    for title in ("seconds", "share", "rollouts", "tokens generated", "scored"):
        table.add_column(title, justify="right", no_wrap=True)
    for kind, cost in stages.items():
        counts = (cost.rollouts, cost.generated_tokens, cost.scored_tokens)
        cells = [f"{count:,}" if count else "" for count in counts]
        table.add_row(_NAMES.get(kind, kind), f"{cost.wall_s:.2f}", _share(cost.wall_s, total), *cells)
    table.add_row("all", f"{total:.2f}", _share(total, total))
    screen.print()
    screen.print(table)
    screen.print(
        f"Inside {watch.calls:,} forward passes of the models: {watch.seconds:.2f} s, {_share(watch.seconds, total)}."
    )


def _share(part: float, whole: float) -> str:
    return f"{100.0 * part / whole:.0f} %" if whole else ""
