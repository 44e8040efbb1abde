"""What a long run says while it runs: plain lines that do not flood a log, with a cost and an honest estimate."""

import io
import itertools

import pytest
from rich.console import Console

from hydrometer.cli import progress
from hydrometer.runs.progress import Answer, Standing


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


def test_a_terminal_gets_a_screen_and_anything_else_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.build_progress(quiet=False) as lines:
        assert isinstance(lines, progress._Lines)
    monkeypatch.setattr(progress, "Console", lambda **options: Console(file=io.StringIO(), force_terminal=True))
    with progress.build_progress(quiet=True) as lines:
        assert isinstance(lines, progress._Lines)
    with progress.build_progress(quiet=False) as screen:
        assert isinstance(screen, progress._Screen)
        screen.stage("pilot", 9)
        screen.stage("branches", 3)
        screen.spent(4, 50)
        screen.advance(2, total=5)
        screen.note("one \x1b line")
        assert [(task.description, task.completed, task.total) for task in screen.bars.tasks] == [("branches", 2, 5)]


RANKING = Answer(
    "Pooled cosine on 8 questions",
    (
        Standing("\x1b[2Jexpert", 0.5, (0.0, 1.0), 0.9),
        Standing("early", None),
        Standing("other", -0.25, (-0.5, 0.0), 0.1),
    ),
)


def drawn(answer: Answer) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=100).print(*progress._answer_table(answer), sep="\n")
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_running_ranking_shows_intervals_on_one_axis() -> None:
    title, first, second, third = drawn(RANKING)
    assert title == "Pooled cosine on 8 questions"
    assert first.split() == ["\\x1b[2Jexpert", "+0.500", "[+0.000,", "+1.000]", "┼───────●────────", "p", "0.90"]
    assert second.split() == ["early", "none", "yet"]
    assert third.split() == ["other", "-0.250", "[-0.500,", "+0.000]", "────●───┼", "p", "0.10"]
    # the axis runs from -0.5 to 1, so that one interval ends where the other begins
    assert first.index("┼") == third.index("┼")


def test_long_answers_are_cut_and_say_so() -> None:
    lines = tuple(Standing(f"metric {i}", float(i), history=(0.0, 1.0, float(i))) for i in range(11))
    shown = drawn(Answer("Step 3 of 9", lines))
    assert len(shown) == 1 + 8 + 1
    assert shown[3].split() == ["metric", "2", "2", "▁▅█"]
    assert shown[-1] == "and 3 more"


def test_running_answers_take_a_small_share_of_the_time(clock: list[float]) -> None:
    screen = progress._Lines(Console(file=io.StringIO()))
    asked = []
    for _ in range(4000):
        clock[0] += 1.0
        if screen.wants_answer():
            asked.append(clock[0])
            clock[0] += 10.0  # it takes ten seconds
            screen.answer(RANKING)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert asked[0] == 160.0  # a minute after the beginning, when nothing is known of its price
    assert set(pauses) == {260.0}  # ten seconds of every 260 are 4 %


def test_a_plain_log_gets_the_first_lines_of_an_answer(clock: list[float]) -> None:
    file = io.StringIO()
    progress._Lines(Console(file=file, width=40, markup=False)).answer(RANKING)
    assert file.getvalue().splitlines() == [
        "Pooled cosine on 8 questions: \\x1b[2Jexpert +0.500 [+0.000, +1.000]; early none yet; "
        "other -0.250 [-0.500, +0.000]"
    ]
