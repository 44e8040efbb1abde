import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydrometer.recipes.filters import (
    BLOCK_CHARACTERS,
    refuse_answer,
    repeats_block,
    repeats_lines,
    repeats_windows,
)

LINE = "this line is longer than twenty"


def noise(length: int, start: int = 0) -> str:
    """Text without repetition at any of the periods that are looked for: base-26 numbers of growing value."""
    words = (f"{value * 7919 % 104729:x}" for value in range(start, start + length))
    return " ".join(words)[:length]


def slow_block(text: str) -> bool:
    """The definition, read off: some place where a block stands three times in a row."""
    size = BLOCK_CHARACTERS
    return any(
        text[i : i + size] == text[i + size : i + 2 * size] == text[i + 2 * size : i + 3 * size]
        for i in range(len(text) - 3 * size + 1)
    )


@pytest.mark.parametrize(("count", "refused"), [(4, False), (5, True)])
def test_a_long_line_may_stand_four_times(count: int, refused: bool) -> None:
    assert repeats_lines("\n".join([f"  {LINE} "] * count + ["end"])) is refused


def test_short_lines_may_stand_as_often_as_they_like() -> None:
    assert not repeats_lines("\n".join(["a short line"] * 50))


def test_a_window_may_be_seen_twice() -> None:
    window = noise(100)
    gap = noise(130, start=900)[:30]  # windows start every 10 characters, so that copies are seen at multiples of 10
    assert not repeats_windows(window + gap + window)
    assert repeats_windows(window + gap + window + gap + window)
    assert not repeats_windows(window + "abc" + window + "defg" + window), "off the stride a copy is not seen"


@given(st.integers(0, 200), st.integers(1, 60), st.integers(0, 200), st.integers(100, 320))
def test_a_block_three_times_in_a_row_is_found_wherever_it_stands(
    before: int, period: int, after: int, run: int
) -> None:
    text = noise(before) + (noise(period, start=400) * 400)[:run] + noise(after, start=800)
    assert repeats_block(text) == slow_block(text)


def test_blocks_are_looked_for_in_long_answers_only_and_the_first_rule_is_told() -> None:
    stuck = noise(BLOCK_CHARACTERS, start=77) * 3
    assert refuse_answer(noise(4_000) + stuck) in (None, "window")
    assert refuse_answer("x" * 3 + noise(6_000) + stuck) in ("block", "window")
    assert refuse_answer("no box", mark="\\boxed") == "mark"
    assert refuse_answer("\\boxed{7}", mark="\\boxed") is None
    assert refuse_answer("\n".join([LINE] * 5), mark="") == "line"
