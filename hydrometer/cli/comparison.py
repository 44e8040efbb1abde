"""What `hydrometer report` prints of several runs: scores by student, their differences, student x context."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.alignment.comparison import RunComparison
from hydrometer.cli.printable import printable

LEVEL = 0.05
"""Share of 95 % intervals that leave out 0 where nothing differs."""


def print_comparison(comparison: RunComparison, screen: Console) -> None:
    """Corrected pooled cosines per run, run against run, and every interaction whose interval leaves out 0."""
    scores, differences, interactions = (table.to_dicts() for table in comparison)
    runs = list(dict.fromkeys(row["run"] for row in scores))
    letters = {run: _letter(place) for place, run in enumerate(runs)}
    students = {row["run"]: row["student"] for row in scores}
    screen.print("\nThe runs compared:")
    for run in runs:
        screen.print(Text(printable(f"  {letters[run]}  {run}, student {students[run]}")), soft_wrap=True)
    screen.print("\nPooled cosine with its 95 % interval over questions:")
    screen.print(_scores(scores, runs, letters))
    screen.print("\nDifferences between runs:")
    screen.print(_rows(differences, letters, ("teacher", "objective")))
    _print_interactions(interactions, letters, screen)


def _letter(place: int) -> str:
    """A, B ... Z, then 27, 28 ..."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _scores(rows: Sequence[Mapping[str, Any]], runs: Sequence[str], letters: Mapping[str, str]) -> Table:
    by_arm: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        by_arm.setdefault((row["teacher"], row["objective"]), {})[row["run"]] = _estimate(row)
    table = _table(["teacher", "objective", *(letters[run] for run in runs)])
    for arm, cells in by_arm.items():
        table.add_row(*(Text(printable(name)) for name in arm), *(cells[run] for run in runs))
    return table


def _rows(rows: Sequence[Mapping[str, Any]], letters: Mapping[str, str], names: Sequence[str]) -> Table:
    table = _table(["runs", *names, "difference"])
    for row in rows:
        runs = f"{letters[row['run_2']]} - {letters[row['run_1']]}"
        table.add_row(runs, *(Text(printable(row[name])) for name in names), _estimate(row))
    return table


def _print_interactions(rows: Sequence[Mapping[str, Any]], letters: Mapping[str, str], screen: Console) -> None:
    """Student x context: how much further ahead of another context one is for the second student."""
    known = [row for row in rows if row["low"] is not None]
    apart = [row for row in known if row["low"] > 0.0 or row["high"] < 0.0]
    screen.print(
        f"\nStudent x context: of {len(rows)} interactions {len(known)} have an interval and {len(apart)} of these "
        f"leave out 0; about {LEVEL * len(known):.1f} would by chance, for no interval is corrected for their number."
    )
    if apart:
        screen.print("How much further ahead of the other teacher the first one is:")
        screen.print(_rows(apart, letters, ("teacher", "against", "objective")))
    screen.print("All of them: --json, or hydrometer.alignment.compare_runs in Python.")


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _estimate(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "no score"
    ends = "no interval" if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"{row['value']:+.3f} {ends}"
