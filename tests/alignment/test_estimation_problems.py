"""The benchmark's own truth: calibrated cosines, unbiased strategies, tokens that add up, ratios in closed form."""

import numpy as np
import pytest

from benchmarks.estimation_curves import Point, measure_population, token_ratios, tokens_for
from benchmarks.estimation_map import map_counts, matters, windowed_counts
from benchmarks.estimation_problems import Chains, Population
from benchmarks.estimation_rollouts import start, top_up
from benchmarks.estimation_strategies import ChosenNodes, OnPolicy, Outcomes, Windowed, with_paths
from hydrometer.success.allocation import Map

POPULATION = Population((0.3, 0.1, -0.05), 4, 2, block=150, paths=2)


@pytest.fixture(scope="module")
def chains() -> Chains:
    return POPULATION.draw_block(0, POPULATION.calibrate())


def test_cosines_are_those_asked_for_and_strategies_are_unbiased() -> None:
    strategies = [Windowed(5, 5), ChosenNodes(3, 2), Outcomes(2, 1, 2), OnPolicy(8)]
    truth, measured, offsets = measure_population(POPULATION, strategies, 1)
    np.testing.assert_allclose(truth.cosine, POPULATION.cosines, atol=1e-6)
    assert np.abs(offsets[:3]).max() < 4.0
    # |g|^2 without its noise, of one path, from every node and from a few by their weights
    whole, few = measured[0].ideal_square, measured[1].ideal_square
    error = np.sqrt((whole.var() + few.var()) / len(whole))
    assert abs(whole.mean() - few.mean()) < 4.0 * error
    assert measured[2].ideal_square.mean() > 0.0


def test_targets_are_met_and_every_generated_token_is_paid_for(chains: Chains) -> None:
    one = with_paths(chains, 1)
    rng = np.random.default_rng(0)
    listed = one.is_candidate & one.is_node[..., None]
    base = start(one, 6, rng)
    np.testing.assert_allclose(base.tokens, 6 * one.length)
    counts = top_up(one, base, np.where(listed, 4, 0), rng)
    assert counts.visits[listed].min() == 4
    assert not counts.visits[~listed].any()
    assert (counts.successes <= counts.visits).all()
    # never more than if nobody went on along the path
    most = (np.maximum(4 - base.visits, 0) * listed).sum(-1) * one.remaining
    assert (counts.tokens - base.tokens <= most.sum(-1) + 1e-9).all()
    rate = counts.successes[listed].sum() / counts.visits[listed].sum()
    expected = (one.rates[..., :-1] * counts.visits)[listed].sum() / counts.visits[listed].sum()
    assert rate == pytest.approx(expected, abs=0.02)


def test_a_map_visits_mattering_candidates_more_than_a_window_of_the_same_cost(chains: Chains) -> None:
    one = with_paths(chains, 1)
    mapped = map_counts(one, Map(40), np.random.default_rng(1))
    windowed = windowed_counts(one, 10, 1.0, np.random.default_rng(1))
    assert mapped.tokens.mean() < windowed.tokens.mean()
    assert mapped.visits[matters(one)].mean() > 1.5 * windowed.visits[matters(one)].mean()


def test_ratios_are_read_off_on_log_scales() -> None:
    def line(factor: float) -> list[Point]:
        return [Point(size, factor * size, 1.0 / size, 0.0, 0.0, 0.0) for size in (20, 50, 200)]

    assert tokens_for(line(1.0), 1.0 / 100) == pytest.approx(100.0)
    assert np.isnan(tokens_for(line(1.0), 1e-3))
    np.testing.assert_allclose(token_ratios(line(30.0), [line(30.0), line(6.0)], line(2.0)), [3.0, 3.0, 3.0])
