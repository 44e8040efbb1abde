"""Runs that stop by the tool's own looks: where they end, and how often they prefer one of two equal arms."""

import numpy as np
import pytest

from benchmarks.estimation_coverage import cover_stopped, draw_endings, tell_equals
from benchmarks.estimation_curves import Truth
from hydrometer.alignment.looks import look_schedule
from hydrometer.alignment.metrics import TERMS

RUNS = 500


def terms_of(means: tuple[float, ...], spread: float, count: int = 400) -> np.ndarray:
    """Questions with |g| = |d| = 1, so that an arm's mean inner product is its pooled cosine."""
    rng = np.random.default_rng(0)
    terms = np.zeros((count, len(means), len(TERMS)))
    for name in ("nodes", "direction_square", "ideal_square"):
        terms[..., TERMS.index(name)] = 1.0
    inner = rng.standard_normal(terms.shape[:2])
    inner = (inner - inner.mean(0)) * spread + np.array(means)
    terms[..., TERMS.index("inner")] = inner
    return terms


def test_a_clear_run_ends_at_its_first_look_and_an_even_one_at_its_last() -> None:
    rng = np.random.default_rng(1)
    clear = [ending for _, ending in draw_endings(terms_of((0.6, 0.1), 0.1), 50, 20, rng, apart=False)]
    assert {(ending.questions, ending.recommended, ending.is_early) for ending in clear} == {(8, 0, True)}
    assert all(ending.is_told_apart.tolist() == [False, True, True] for ending in clear)
    even = [ending for _, ending in draw_endings(terms_of((0.3, 0.3), 0.5), 50, 100, rng, apart=False)]
    last = [ending for ending in even if ending.recommended is None]
    assert len(last) > 85
    assert {(ending.questions, ending.is_early) for ending in last} == {(50, False)}


def test_looking_widens_intervals_by_less_than_half_and_they_hold() -> None:
    terms = terms_of((0.3, 0.2), 0.4)
    found = cover_stopped(
        terms, Truth(np.array([0.3, 0.2]), np.zeros(2)), 50, 200, np.random.default_rng(2), apart=False
    )
    assert 0 < found.stopped < 200
    assert 1.15 < found.widening < 1.5
    assert found.given == 200
    assert found.held >= 190  # 95 %, and above: it holds at every look
    assert len(look_schedule(50)) == 7


@pytest.mark.slow
@pytest.mark.parametrize("teachers", [2, 8])
@pytest.mark.parametrize(("visits", "questions"), [(20, 20), (20, 50), (100, 8)])
def test_equal_arms_are_told_apart_in_five_percent_of_runs_at_most(teachers: int, visits: int, questions: int) -> None:
    found = tell_equals(teachers, visits, questions, RUNS, stops=True)
    assert found.told_apart <= RUNS * 0.05 + 2.0 * np.sqrt(RUNS * 0.05 * 0.95)
