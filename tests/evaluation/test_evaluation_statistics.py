"""Estimates against enumeration and scipy; what is said where there is too little to say."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hydrometer.evaluation.statistics import (
    Estimate,
    estimate_difference,
    estimate_mean,
    estimate_share,
    pass_at,
    pass_sizes,
)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_is_the_share_of_subsets_with_a_correct_sample(case: tuple[int, int, int]) -> None:
    n, c, k = case
    outcomes = [True] * c + [False] * (n - c)
    subsets = [any(subset) for subset in combinations(outcomes, k)]
    found = pass_at(np.array([c]), np.array([n]), k)[0]
    assert found == pytest.approx(sum(subsets) / len(subsets))


def test_pass_at_is_unbiased() -> None:
    p, n, k = 0.3, 6, 4
    counts = np.arange(n + 1)
    expected = (stats.binom.pmf(counts, n, p) * pass_at(counts, np.full(n + 1, n), k)).sum()
    assert expected == pytest.approx(1 - (1 - p) ** k)


def test_pass_at_takes_each_questions_own_samples_and_needs_k_of_them() -> None:
    assert pass_at(np.array([1, 0, 2]), np.array([4, 2, 2]), 2) == pytest.approx([0.5, 0.0, 1.0])
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"pass@{k} needs"):
            pass_at(np.array([1, 0]), np.array([4, 2]), k)


def test_pass_at_stays_exact_with_many_samples() -> None:
    found = pass_at(np.array([3]), np.array([5000]), 1024)[0]
    assert found == pytest.approx(1 - np.prod([(5000 - 1024 - i) / (5000 - i) for i in range(3)]), rel=1e-9)


@pytest.mark.parametrize(("samples", "sizes"), [(1, (1,)), (2, (1, 2)), (7, (1, 2, 4)), (8, (1, 2, 4, 8))])
def test_pass_sizes_are_the_powers_of_two_up_to_the_samples(samples: int, sizes: tuple[int, ...]) -> None:
    assert pass_sizes(samples) == sizes


def test_a_mean_has_the_t_interval_of_scipy_and_of_the_jackknife() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.8, 0.5, 0.25])
    found = estimate_mean(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found == (pytest.approx(values.mean()), pytest.approx(expected.low), pytest.approx(expected.high), 6, None)
    left_out = (values.sum() - values) / 5
    error = np.sqrt(5 / 6 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.high is not None
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 5) * error)


def test_fewer_than_five_questions_have_no_interval() -> None:
    assert estimate_share(np.array([1.0, 0.0, 1.0, 1.0])) == Estimate(0.75, None, None, 4, "fewer_than_5_questions")
    assert estimate_share(np.ones(4)).low is None
    assert estimate_mean(np.arange(5.0)).low is not None
    with pytest.raises(ValueError, match="needs one"):
        estimate_mean(np.zeros(0))


def test_a_share_is_cut_off_at_its_limits() -> None:
    found = estimate_share(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.2]))
    assert found.low == 0.0
    assert found.high is not None
    assert 0.0 < found.high < 0.2
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        estimate_share(np.array([1.5]))


@pytest.mark.parametrize("count", [5, 30, 400])
def test_all_right_or_all_wrong_has_the_exact_interval_of_scipy(count: int) -> None:
    for share in (0, 1):
        found = estimate_share(np.full(count, float(share)))
        expected = stats.binomtest(share * count, count).proportion_ci(0.95, method="exact")
        assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
        assert found.value == share


def test_differences_that_are_all_zero_have_no_interval() -> None:
    assert estimate_difference(np.zeros(9)) == Estimate(0.0, None, None, 9, "all_differences_zero")
    assert estimate_difference(np.zeros(3)).reason == "fewer_than_5_questions"
    moved = estimate_difference(np.array([0.0, 0.0, 0.5, -0.5, 0.0]))
    assert moved.low is not None
    assert moved.low < 0.0 == moved.value


def test_the_interval_covers_the_mean_of_the_population_of_questions() -> None:
    """Questions from a beta distribution, four samples each, counts of covered means within their own error."""
    rng = np.random.default_rng(3)
    rates = rng.beta(1.5, 1.0, size=(2000, 20))
    values = rng.binomial(4, rates) / 4
    found = [estimate_share(row) for row in values]
    covered = [one.low <= 0.6 <= one.high for one in found if one.low is not None and one.high is not None]
    assert len(covered) == 2000
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_pass_at_grows_with_k() -> None:
    counts = np.arange(9)
    rates = [pass_at(counts, np.full(9, 8), k) for k in range(1, 9)]
    assert all((later >= earlier).all() for earlier, later in pairwise(rates))
    assert rates[0] == pytest.approx(counts / 8)
    assert rates[-1] == pytest.approx((counts > 0).astype(float))
