"""Paired comparisons against scipy, enumeration and simulation."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hydrometer.errors import SpecError
from hydrometer.evaluation.comparison import compare, mcnemar, pool_evaluations, pool_seeds


def outcomes(rows: list[list[bool]]) -> pl.DataFrame:
    """One list of outcomes per question."""
    return pl.DataFrame(
        [
            {"question_id": f"q{i}", "sample": j, "correct": hit}
            for i, row in enumerate(rows)
            for j, hit in enumerate(row)
        ]
    )


def random_outcomes(rates: np.ndarray, samples: int, rng: np.random.Generator) -> pl.DataFrame:
    return outcomes([(rng.random(samples) < rate).tolist() for rate in rates])


def test_the_difference_is_the_paired_t_interval_and_wilcoxon_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    rates = rng.random(12)
    first, second = random_outcomes(rates, 16, rng), random_outcomes(0.7 * rates, 16, rng)
    found = compare(first, second)
    means = [
        table.group_by("question_id").agg(pl.col("correct").mean()).sort("question_id")["correct"].to_numpy()
        for table in (first, second)
    ]
    expected = stats.ttest_rel(*means).confidence_interval(0.95)
    assert found.difference.value == pytest.approx(means[0].mean() - means[1].mean())
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high))
    assert found.mcnemar is None
    differences = means[0] - means[1]
    ranks = stats.rankdata(np.abs(differences[differences != 0]))
    signs = np.array(list(product([0, 1], repeat=len(ranks))))
    observed = ranks[differences[differences != 0] > 0].sum()
    centre = ranks.sum() / 2
    p = np.mean(np.abs(signs @ ranks - centre) >= abs(observed - centre) - 1e-9)
    assert found.wilcoxon.p == pytest.approx(p)


def test_one_response_each_gives_mcnemar_which_is_wilcoxon_of_plus_and_minus_one() -> None:
    first = outcomes([[True]] * 9 + [[False]] * 2 + [[True]] * 3 + [[False]] * 4)
    second = outcomes([[False]] * 9 + [[True]] * 2 + [[True]] * 3 + [[False]] * 4)
    found = compare(first, second)
    assert found.mcnemar is not None
    assert found.mcnemar[:2] == (9, 2)
    assert found.mcnemar.p == pytest.approx(stats.binomtest(2, 11, 0.5).pvalue)
    assert found.mcnemar.p == pytest.approx(sum(2 * stats.binom.pmf(k, 11, 0.5) for k in range(3)))
    assert found.wilcoxon.n_questions == 11
    assert found.wilcoxon.p == pytest.approx(found.mcnemar.p)
    assert found.difference.value == pytest.approx(7 / 18)


def test_models_that_never_differ_have_neither_p_nor_interval() -> None:
    same = outcomes([[True], [False], [True], [True], [False], [True]])
    found = compare(same, same).describe()
    assert found["mcnemar"] == {"only_first": 0, "only_second": 0, "p": None}
    assert found["wilcoxon"]["p"] is None
    assert found["difference"]["reason"] == "all_differences_zero"
    assert mcnemar(np.zeros(4)).p is None


def test_comparing_is_antisymmetric_and_blind_to_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    first, second = (random_outcomes(rng.random(8), 4, rng) for _ in range(2))
    found, mirrored = compare(first, second), compare(second.sample(fraction=1.0, shuffle=True, seed=1), first)
    assert mirrored.difference.value == pytest.approx(-found.difference.value)
    assert mirrored.difference.low == pytest.approx(-(found.difference.high or 0.0))
    assert mirrored.wilcoxon.p == pytest.approx(found.wilcoxon.p)


def test_evaluations_of_other_questions_are_not_compared() -> None:
    with pytest.raises(SpecError, match=r"1 are in only one of them, the first is 'q5'"):
        compare(outcomes([[True]] * 6), outcomes([[True]] * 5))
    other = outcomes([[True]] * 5), outcomes([[True]] * 5)
    with pytest.raises(SpecError, match="cannot be pooled"):
        pool_evaluations([(outcomes([[True]] * 6), outcomes([[True]] * 6)), other])


def test_pooling_evaluations_is_pooling_their_differences() -> None:
    rng = np.random.default_rng(2)
    pairs = [(random_outcomes(np.full(7, 0.6), 4, rng), random_outcomes(np.full(7, 0.3), 4, rng)) for _ in range(3)]
    differences = np.array(
        [
            [
                table[0].filter(question_id=f"q{i}")["correct"].mean()
                - table[1].filter(question_id=f"q{i}")["correct"].mean()
                for i in range(7)
            ]
            for table in pairs
        ]
    )
    found = pool_evaluations(pairs)
    assert found == pool_seeds(differences)
    assert found.n_seeds == 3
    assert found.questions.value == pytest.approx(differences.mean())
    by_question = stats.ttest_1samp(differences.mean(0), 0.0).confidence_interval(0.95)
    by_seed = stats.ttest_1samp(differences.mean(1), 0.0).confidence_interval(0.95)
    assert (found.questions.low, found.questions.high) == pytest.approx((by_question.low, by_question.high))
    assert (found.seeds.low, found.seeds.high) == pytest.approx((by_seed.low, by_seed.high))


def test_one_seed_says_nothing_of_other_seeds() -> None:
    found = pool_seeds(np.arange(6.0)[None])
    assert found.questions.low is not None
    assert (found.seeds.low, found.both.reason) == (None, "fewer_than_2_seeds")
    few = pool_seeds(np.arange(8.0).reshape(2, 4))
    assert (few.seeds.low is None, few.both.reason) == (False, "fewer_than_5_questions")


@pytest.mark.parametrize(("over_questions", "over_seeds"), [(0.3, 0.0), (0.1, 0.1), (0.3, 0.05)])
def test_the_interval_over_both_covers_where_seeds_and_questions_vary(over_questions: float, over_seeds: float) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(800):
        questions, seeds = rng.normal(0, over_questions, (1, 30)), rng.normal(0, over_seeds, (5, 1))
        found = pool_seeds(0.2 + questions + seeds + rng.normal(0, 0.2, (5, 30))).both
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.2 <= found.high
    assert 0.93 <= covered / 800 <= 0.985
