import numpy as np
import pytest

from benchmarks.simulated_worlds import population_sums
from benchmarks.validity import COVERED, WORLDS, conditional_coverage, null_world, question_coverage

LEAST, MOST = 0.93, 0.97


def can_be_at_least(coverage, rate):
    """The simulation's own binomial error allows a true coverage of `rate` or more."""
    return coverage.plausible()[1] >= rate


def can_be_at_most(coverage, rate):
    return coverage.plausible()[0] <= rate


@pytest.mark.parametrize("temperature", [1.5, 0.7])
def test_null_world_shows_no_difference(temperature):
    result = null_world(temperature=temperature, runs=150, visits=20, count_path=False, seed=1)
    for name, coverage in result.coverage.items():
        assert coverage.given == coverage.runs
        assert can_be_at_least(coverage, LEAST), name
        assert abs(result.mean[name]) < 0.03, name
    assert 0.2 < result.corrected_null_share < 0.8


@pytest.mark.parametrize(("temperature", "sign"), [(1.5, -1), (0.7, 1)])
def test_counting_the_path_in_its_own_rates_fails_the_null_world(temperature, sign):
    result = null_world(temperature=temperature, runs=100, visits=20, count_path=True, seed=1)
    for name, coverage in result.coverage.items():
        assert not can_be_at_least(coverage, LEAST), name
        assert sign * result.mean[name] > 0.05, name


@pytest.mark.parametrize(("questions", "visits"), [(8, 4), (20, 20)])
def test_intervals_over_questions_cover(questions, visits):
    world = WORLDS["good teacher"]
    truth = population_sums(world, np.random.default_rng(1), 12_000)
    found = question_coverage(world, questions=questions, visits=visits, runs=200, truth=truth, seed=3)
    for name in COVERED:
        assert can_be_at_least(found[name], LEAST), name
        assert visits < 20 or can_be_at_most(found[name], MOST), name


def test_intervals_for_these_questions_cover():
    found = conditional_coverage(WORLDS["good teacher"], questions=6, visits=20, runs=50, replicates=60, seed=2)
    for name, coverage in found.items():
        assert can_be_at_least(coverage, LEAST), name


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", WORLDS)
def test_intervals_over_questions_cover_everywhere(label):
    truth = population_sums(WORLDS[label], np.random.default_rng(1))
    for questions in (8, 20, 50):
        for visits in (4, 20, 100):
            found = question_coverage(
                WORLDS[label], questions=questions, visits=visits, runs=500, truth=truth, seed=questions + visits
            )
            for name in COVERED:
                assert can_be_at_least(found[name], LEAST), (questions, visits, name, found[name].rate)
                assert visits < 20 or can_be_at_most(found[name], MOST), (questions, visits, name, found[name].rate)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.5, 0.7])
def test_null_world_in_full(temperature):
    right = null_world(temperature=temperature, runs=1000, visits=20, count_path=False, seed=7)
    wrong = null_world(temperature=temperature, runs=1000, visits=20, count_path=True, seed=7)
    for name in right.coverage:
        assert right.coverage[name].rate >= LEAST, name
        assert wrong.coverage[name].rate < 0.85, name
