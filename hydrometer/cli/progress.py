"""Progress of a long run: one live line on a terminal, plain lines elsewhere. Always on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from hydrometer.cli.printable import printable
from hydrometer.runs.progress import Progress

_PLAIN_EVERY_S = 15.0


@contextmanager
def build_progress(*, quiet: bool) -> Iterator[Progress]:
    """The display that fits where stderr goes."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not console.is_terminal:
        yield _Lines(console)
        return
    display = Display(
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cost]}"),
        console=console,
    )
    with display:
        yield _Bars(display)


def _cost_text(rollouts: int, generated_tokens: int) -> str:
    return f"{rollouts:,} rollouts, {generated_tokens:,} tokens"


class _Bars:
    """One bar per stage."""

    def __init__(self, display: Display):
        self.display = display
        self.task = None
        self.cost = ""

    def stage(self, name: str, total: int) -> None:
        self.task = self.display.add_task(printable(name), total=total, cost=self.cost)

    def advance(self, steps: int, *, total: int | None = None) -> None:
        if self.task is not None:
            self.display.update(self.task, advance=steps, total=total)

    def spent(self, rollouts: int, generated_tokens: int) -> None:
        self.cost = _cost_text(rollouts, generated_tokens)
        if self.task is not None:
            self.display.update(self.task, cost=self.cost)

    def caught_up(self) -> None:
        """The bars look at the last half minute only."""

    def note(self, text: str) -> None:
        self.display.console.print(printable(text))


class _Lines:
    """A line when a stage begins and then one every quarter of a minute."""

    def __init__(self, console: Console):
        self.console = console
        self.name, self.done, self.total, self.cost = "", 0, 0, ""
        self.replayed = 0
        self.began = self.last = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        self.name, self.done, self.total = printable(name), 0, total
        self.began = self.last = time.monotonic()
        self.replayed = 0
        self.console.print(f"{self.name}: {total:,}", soft_wrap=True)

    def advance(self, steps: int, *, total: int | None = None) -> None:
        self.done += steps
        self.total = self.total if total is None else total
        now = time.monotonic()
        if now - self.last < _PLAIN_EVERY_S:
            return
        self.last = now
        left = (now - self.began) / max(self.done - self.replayed, 1) * max(self.total - self.done, 0)
        self.console.print(
            f"{self.name}: {self.done:,} of {self.total:,}, about {left:.0f} s left; {self.cost}", soft_wrap=True
        )

    def spent(self, rollouts: int, generated_tokens: int) -> None:
        self.cost = _cost_text(rollouts, generated_tokens)

    def caught_up(self) -> None:
        self.began, self.replayed = time.monotonic(), self.done

    def note(self, text: str) -> None:
        self.console.print(printable(text), soft_wrap=True)
