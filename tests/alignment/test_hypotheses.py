import itertools

import numpy as np
import pytest
from scipy import stats

from hydrometer.alignment.hypotheses import holm, signed_rank


@pytest.mark.parametrize("seed", range(4))
def test_signed_rank_equals_scipy_without_ties(seed):
    x = np.random.default_rng(seed).normal(0.4, 1.0, size=11)
    assert signed_rank(x).p == pytest.approx(stats.wilcoxon(x, method="exact").pvalue)


@pytest.mark.parametrize("values", [[1, 1, -1, 2, 2, 3], [0.5, -0.5, 0.5, 0.0, 1.0], [2, 2, 2, 2], [-1, 2]])
def test_signed_rank_with_ties_equals_all_sign_patterns(values):
    x = np.array([v for v in values if v], dtype=float)
    ranks = stats.rankdata(abs(x))
    sums = np.array(
        [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=len(x))]
    )
    observed = ranks[x > 0].sum()
    expected = min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))
    result = signed_rank(np.array(values, dtype=float))
    assert result.p == pytest.approx(expected)
    assert result.n_questions == len(x)


def test_least_attainable_p_is_attained_when_all_agree():
    result = signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert result.p == result.least_attainable_p == 2**-5


def test_no_difference_gives_no_p():
    result = signed_rank(np.array([0.0, 0.0, np.nan]))
    assert np.isnan(result.p) and result.n_questions == 0 and result.median == 0.0


def test_many_questions_use_the_normal_limit_continuously():
    x = np.random.default_rng(3).normal(0.05, 1.0, size=401)
    assert signed_rank(x).p == pytest.approx(signed_rank(x[:400]).p, rel=0.3)
    assert signed_rank(x).p == pytest.approx(stats.wilcoxon(x, correction=False, method="approx").pvalue, rel=1e-6)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_caps_at_one_and_ignores_missing_tests():
    assert holm([0.6, float("nan"), 0.7]) == pytest.approx([1.0, float("nan"), 1.0], nan_ok=True)
    assert holm([]) == []


def test_what_rounding_leaves_is_neither_a_difference_nor_breaks_a_tie():
    clean = np.array([0.3, -0.1, 0.2, 0.2, 0.0, 0.0])
    noisy = clean + 1e-17 * np.array([1, -1, 1, -1, 1, -1])
    assert signed_rank(noisy)._replace(median=0.0) == signed_rank(clean)._replace(median=0.0)
    assert signed_rank(noisy).n_questions == 4
    tiny = signed_rank(1e-9 * clean)  # small differences are differences all the same
    assert (tiny.n_questions, tiny.p) == (4, signed_rank(clean).p)
