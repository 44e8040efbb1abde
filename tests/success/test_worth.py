import numpy as np
import pytest
from scipy import integrate, stats

from hydrometer.success.worth import SHARE, SPREAD, THRESHOLD, can_matter, estimate_worth

PAIR = np.array([7, 7])


def test_what_can_matter_is_what_would_at_a_difference_of_one():
    prob = np.array([0.9, 0.05, 0.03, 0.985, 0.005, 0.5])
    node = np.array([1, 1, 1, 2, 2, 3])
    mass = np.array([0.98, 0.98, 0.98, 0.99, 0.99, 0.5])
    expected = prob * (1.0 - prob / mass) >= THRESHOLD
    assert expected.tolist() == [True, True, True, False, False, False]
    assert can_matter(node, prob).tolist() == expected.tolist()


@pytest.mark.parametrize("successes", [[0, 8], [4, 4], [3, 5]])
def test_the_chance_that_a_pair_matters_is_the_integral_of_its_posterior(successes):
    """Two candidates of probability 0.6 and 0.4, 8 visits each."""
    weights, visits = np.array([0.6, 0.4]), np.array([8, 8])
    got = estimate_worth(PAIR, weights, visits, np.array(successes))
    pooled = (sum(successes) + 1.0) / 18.0
    rate = (np.array(successes) + pooled) / 9.0
    one = np.maximum(rate * (1.0 - rate), 0.02)
    # delta_0 = 0.4 (S_0 - S_1)
    delta, error = 0.4 * (rate[0] - rate[1]), 0.4 * np.sqrt((one / 9.0).sum())
    least = THRESHOLD / 0.6

    def joint(x):
        return SHARE * stats.norm.pdf(x, 0.0, SPREAD) * stats.norm.pdf(delta, x, error)

    total = integrate.quad(joint, -3, 3, points=[delta])[0] + (1 - SHARE) * stats.norm.pdf(delta, 0.0, error)
    beyond = integrate.quad(joint, -3, -least)[0] + integrate.quad(joint, least, 3)[0]
    assert got.probability[0] == pytest.approx(beyond / total, rel=1e-6)
    np.testing.assert_allclose(got.variance, one)


def test_evidence_moves_the_chance_in_the_right_direction():
    prob = np.array([0.5, 0.5])

    def chance(visits, successes):
        return estimate_worth(PAIR, prob, np.array([visits, visits]), np.array(successes)).probability[0]

    assert chance(40, [36, 4]) > 0.99
    assert chance(200, [100, 100]) < 0.15 < chance(4, [2, 2])
    assert chance(400, [220, 180]) > chance(40, [22, 18])


def test_nodes_do_not_look_at_each_other():
    node, prob = np.array([5, 5, 2, 2]), np.array([0.7, 0.2, 0.5, 0.5])
    visits, successes = np.array([4, 6, 9, 9]), np.array([1, 5, 9, 2])
    together = estimate_worth(node, prob, visits, successes)
    for mine in (slice(0, 2), slice(2, 4)):
        alone = estimate_worth(node[mine], prob[mine], visits[mine], successes[mine])
        np.testing.assert_allclose(together.probability[mine], alone.probability)
    nothing = np.zeros(0, dtype=np.int64)
    assert len(estimate_worth(nothing, np.zeros(0), nothing, nothing).probability) == 0
