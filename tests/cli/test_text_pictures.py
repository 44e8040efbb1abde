"""Pictures of intervals and of the course of a value."""

import pytest

from hydrometer.cli.marks import draw_history, draw_interval


@pytest.mark.parametrize(
    ("low", "value", "high", "axis", "picture"),
    [
        (-0.5, 0.0, 0.5, (-1.0, 1.0), "  ──●──  "),
        (0.25, 0.5, 0.75, (-1.0, 1.0), "    │─●─ "),
        (-3.0, -1.0, 3.0, (-1.0, 1.0), "●───┼───▸"),
        (0.5, 0.5, 0.5, (0.0, 1.0), "│   ●    "),
        (2.0, 2.0, 2.0, (1.0, 3.0), "    ●    "),
    ],
)
def test_an_interval_lies_where_its_numbers_do(
    low: float, value: float, high: float, axis: tuple[float, float], picture: str
) -> None:
    assert draw_interval(low, value, high, axis=axis, width=9) == picture


def test_history_runs_from_the_smallest_to_the_largest_of_what_is_shown() -> None:
    assert draw_history([0.0, 7.0, 3.0], width=5) == "▁█▄"
    assert draw_history([100.0, 0.0, 1.0], width=2) == "▁█"
    assert draw_history([2.0, 2.0], width=9) == "▁▁"
