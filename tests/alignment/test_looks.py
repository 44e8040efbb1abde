"""Looks planned on a grid, and what each must show so that all of them together err as often as one."""

import numpy as np
import pytest
from scipy import stats

from hydrometer.alignment.looks import MOST_LOOKS, look_schedule, needed_probability


@pytest.mark.parametrize(("looks", "bound"), [(2, 2.178), (3, 2.289), (5, 2.413), (8, 2.512)])
def test_evenly_spaced_looks_give_the_published_bounds(looks: int, bound: float) -> None:
    """Pocock (1977), table 1: 5 % two-sided, so 2.5 % on each side."""
    needed = needed_probability(range(1, looks + 1), 0.95)
    assert stats.norm.ppf((1 + needed) / 2) == pytest.approx(bound, abs=1.5e-3)


def test_equal_arms_are_told_apart_in_five_percent_of_runs() -> None:
    """Brownian paths simulated at a geometric grid, which the integration never sees."""
    looks = look_schedule(100)
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((200_000, len(looks))) * np.sqrt(np.diff((0, *looks)))
    standardised = steps.cumsum(1) / np.sqrt(looks)
    needed = needed_probability(looks, 0.95)
    crossed = (np.abs(standardised) > stats.norm.ppf((1 + needed) / 2)).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 200_000))
    assert (np.abs(standardised) > stats.norm.ppf(0.975)).any(1).mean() > 0.15  # what looking costs where uncounted


@pytest.mark.parametrize("most", [1, 5, 8, 9, 12, 20, 57, 200, 5000])
def test_looks_grow_geometrically_and_end_with_the_last_question(most: int) -> None:
    looks = look_schedule(most)
    assert looks[-1] == most
    assert len(looks) <= MOST_LOOKS
    assert all(before < after for before, after in zip((0, *looks[:-1]), looks, strict=True))
    assert looks[0] == min(8, most)


def test_one_look_needs_what_was_asked_for() -> None:
    assert needed_probability((20,), 0.95) == 0.95
