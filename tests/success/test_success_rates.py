import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from hydrometer.success.rates import jeffreys_interval, success_rate, success_variance


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_rate_and_its_null():
    assert success_rate(ints(1, 3), ints(4, 3)).tolist() == [0.25, 1.0]
    assert np.isnan(success_rate(ints(0), ints(0))).all()


def test_variance_is_null_below_two_visits_and_known_at_four():
    variance = success_variance(ints(0, 1, 1), ints(0, 1, 4))
    assert np.isnan(variance[:2]).all()
    assert variance[2] == pytest.approx(0.25 * 0.75 / 3)


@pytest.mark.parametrize(("n", "truth"), [(2, 0.3), (7, 0.9), (20, 0.05)])
def test_variance_is_unbiased(n, truth):
    successes = np.arange(n + 1)
    weights = binom.pmf(successes, n, truth)
    expected = (weights * success_variance(successes, np.full(n + 1, n))).sum()
    assert expected == pytest.approx(truth * (1 - truth) / n, rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_jeffreys_matches_scipy_inside_and_the_convention_at_the_ends(successes, failures, level):
    n = successes + failures
    low, high = jeffreys_interval(ints(successes), ints(n), level=level)
    posterior = beta(successes + 0.5, failures + 0.5)
    assert low[0] == pytest.approx(0.0 if successes == 0 else posterior.ppf((1 - level) / 2), abs=1e-12)
    assert high[0] == pytest.approx(1.0 if failures == 0 else posterior.ppf((1 + level) / 2), abs=1e-12)
    assert low[0] <= (successes / n if n else 0.5) <= high[0]


def test_jeffreys_one_of_two_in_closed_form():
    # Beta(3/2, 3/2) has CDF (2 t - sin(4 t) / 2) / pi at x = sin(t)^2.
    interval = jeffreys_interval(ints(1), ints(2))
    angles = np.arcsin(np.sqrt(np.concatenate(interval)))
    np.testing.assert_allclose((2 * angles - np.sin(4 * angles) / 2) / np.pi, [0.025, 0.975], rtol=1e-9)


def test_jeffreys_at_the_ends_keeps_the_equal_tailed_other_limit():
    # Nothing of n: high solves I_x(1/2, n + 1/2) = 0.975, not 0.95.
    high = jeffreys_interval(ints(0), ints(20)).high
    assert beta(0.5, 20.5).cdf(high[0]) == pytest.approx(0.975)
    low, high = jeffreys_interval(ints(0), ints(0))
    assert (low[0], high[0]) == (0.0, 1.0)


def test_jeffreys_is_symmetric_and_keeps_shape():
    successes, visits = np.arange(6).reshape(2, 3), np.full((2, 3), 5)
    low, high = jeffreys_interval(successes, visits)
    mirrored_low, mirrored_high = jeffreys_interval(visits - successes, visits)
    np.testing.assert_allclose(low, 1 - mirrored_high, atol=1e-12)
    np.testing.assert_allclose(high, 1 - mirrored_low, atol=1e-12)
    assert low.shape == (2, 3)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="got 5 of 4"):
        success_rate(ints(1, 5), ints(4, 4))
    with pytest.raises(ValueError, match="got -1 of 4"):
        jeffreys_interval(ints(-1), ints(4))
