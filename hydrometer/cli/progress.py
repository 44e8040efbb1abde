"""Progress of a long run: a small live screen on a terminal, plain lines elsewhere. Always on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Display
from rich.table import Table
from rich.text import Text

from hydrometer.cli.marks import draw_history, draw_interval
from hydrometer.cli.printable import printable
from hydrometer.runs.progress import Answer, Progress, Standing

_PLAIN_EVERY_S = 15.0
_ANSWER_EVERY_S = 5.0
_PLAIN_ANSWER_EVERY_S = 60.0
_ANSWER_SHARE = 0.04
"""Most of a run's time that its running answer may take."""
_SHOWN_LINES = 8
_PLAIN_SHOWN_LINES = 3
_MARK_WIDTH = 25


@contextmanager
def build_progress(*, quiet: bool) -> Iterator[Progress]:
    """The display that fits where stderr goes."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not console.is_terminal:
        yield _Lines(console)
        return
    screen = _Screen(console)
    with screen.live:
        yield screen


def _cost_text(rollouts: int, generated_tokens: int) -> str:
    return f"{rollouts:,} rollouts, {generated_tokens:,} tokens"


class _AnswerClock:
    """When to ask for the next running answer: seldom enough that all of them take a small share of the time."""

    def __init__(self, every_s: float):
        self.every_s = every_s
        self.asked = self.answered = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        pause = max(self.every_s, (self.answered - self.asked) / _ANSWER_SHARE)
        if now - self.answered < pause:
            return False
        self.asked = now
        return True

    def note_answer(self) -> None:
        now = time.monotonic()
        # one that nobody asked for has cost nothing that could be known
        self.asked, self.answered = (self.asked if self.asked > self.answered else now), now


class _Screen:
    """The running answer, and a bar for what is being done."""

    def __init__(self, console: Console):
        self.bars = Display(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[cost]}"),
            console=console,
            auto_refresh=False,
        )
        self.task: TaskID | None = None
        self.cost = ""
        self.latest: Answer | None = None
        self.clock = _AnswerClock(_ANSWER_EVERY_S)
        self.live = Live(console=console, get_renderable=self._render, transient=True)

    def _render(self) -> Group:
        return Group(*([] if self.latest is None else [*_answer_table(self.latest), Text()]), self.bars)

    def stage(self, name: str, total: int) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(printable(name), total=total, cost=self.cost)

    def advance(self, steps: int, *, total: int | None = None) -> None:
        if self.task is not None:
            self.bars.update(self.task, advance=steps, total=total)

    def spent(self, rollouts: int, generated_tokens: int) -> None:
        self.cost = _cost_text(rollouts, generated_tokens)
        if self.task is not None:
            self.bars.update(self.task, cost=self.cost)

    def caught_up(self) -> None:
        """The bars look at the last half minute only."""

    def note(self, text: str) -> None:
        self.live.console.print(printable(text))

    def wants_answer(self) -> bool:
        return self.clock.is_due()

    def answer(self, answer: Answer) -> None:
        self.latest = answer
        self.clock.note_answer()


def _answer_table(answer: Answer) -> list[Text | Table]:
    """Title and lines; columns that no line has anything for are left out."""
    shown = answer.lines[:_SHOWN_LINES]
    ends = [end for line in shown if line.interval is not None for end in line.interval]
    axis = (min([*ends, 0.0]), max([*ends, 0.0])) if ends else None
    rows = [_cells(line, axis) for line in shown]
    table = Table.grid(padding=(0, 2))
    wanted = [place for place in range(5) if any(row[place].plain for row in rows)]
    for place in wanted:
        table.add_column(justify="left" if place in (0, 3) else "right", no_wrap=place > 0)
    for row in rows:
        table.add_row(*(row[place] for place in wanted))
    hidden = len(answer.lines) - len(shown)
    more = [Text(f"and {hidden} more", style="dim")] if hidden else []
    return [Text(printable(answer.title), style="bold"), table, *more]


def _cells(line: Standing, axis: tuple[float, float] | None) -> tuple[Text, Text, Text, Text, Text]:
    """Name, value, interval, picture, probability."""
    interval, picture = "", ""
    if line.interval is not None and line.value is not None and axis is not None and axis[0] < axis[1]:
        interval = _interval_text(line.interval)
        picture = draw_interval(line.interval[0], line.value, line.interval[1], axis=axis, width=_MARK_WIDTH)
    elif len(line.history) > 1:
        picture = draw_history(line.history, width=_MARK_WIDTH)
    return (
        Text(printable(line.name)),
        Text(_value_text(line)),
        Text(interval, style="dim"),
        Text(picture),
        Text("" if line.probability is None else f"p {line.probability:.2f}"),
    )


def _value_text(line: Standing) -> str:
    if line.value is None:
        return "none yet"
    return f"{line.value:.4g}" if line.history else f"{line.value:+.3f}"


def _interval_text(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


class _Lines:
    """A line when a stage begins and then one every quarter of a minute; the running answer once a minute."""

    def __init__(self, console: Console):
        self.console = console
        self.name, self.done, self.total, self.cost = "", 0, 0, ""
        self.replayed = 0
        self.began = self.last = time.monotonic()
        self.clock = _AnswerClock(_PLAIN_ANSWER_EVERY_S)

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

    def wants_answer(self) -> bool:
        return self.clock.is_due()

    def answer(self, answer: Answer) -> None:
        self.clock.note_answer()
        parts = [
            " ".join(
                [line.name, _value_text(line), *([] if line.interval is None else [_interval_text(line.interval)])]
            )
            for line in answer.lines[:_PLAIN_SHOWN_LINES]
        ]
        self.note(f"{answer.title}: {'; '.join(parts)}")
