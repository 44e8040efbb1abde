"""What a long run says while it runs: plain lines that do not flood a log, with a cost and an honest estimate."""

import io

import pytest
from rich.console import Console

from hydrometer.cli import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_quarter_of_a_minute_with_the_rest_of_the_time(clock: list[float]) -> None:
    file = io.StringIO()
    lines = progress._Lines(Console(file=file, width=40, markup=False))
    lines.stage("branches", 1000)
    for _ in range(40):
        clock[0] += 1.0
        lines.spent(10, 2500)
        lines.advance(10, total=800)
    assert file.getvalue().splitlines() == [
        "branches: 1,000",
        "branches: 150 of 800, about 65 s left; 10 rollouts, 2,500 tokens",
        "branches: 300 of 800, about 50 s left; 10 rollouts, 2,500 tokens",
    ]


def test_notes_cannot_write_to_the_terminal_what_they_like() -> None:
    file = io.StringIO()
    progress._Lines(Console(file=file, markup=False)).note("[red]\x1b[31m")
    assert file.getvalue() == "[red]\\x1b[31m\n"


def test_a_terminal_gets_bars_and_anything_else_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.build_progress(quiet=False) as lines:
        assert isinstance(lines, progress._Lines)
    monkeypatch.setattr(progress, "Console", lambda **options: Console(file=io.StringIO(), force_terminal=True))
    with progress.build_progress(quiet=True) as lines:
        assert isinstance(lines, progress._Lines)
    with progress.build_progress(quiet=False) as bars:
        bars.stage("pilot", 3)
        bars.spent(4, 50)
        bars.advance(2, total=5)
        bars.note("one \x1b line")
        assert isinstance(bars, progress._Bars)
        assert [(task.completed, task.total) for task in bars.display.tasks] == [(2, 5)]
