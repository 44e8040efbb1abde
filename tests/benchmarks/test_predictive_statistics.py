"""Statistics of scores and gains: closed forms, brute force, scipy."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.predictive_statistics import (
    Choice,
    calibrate,
    choose,
    correlate,
    correlate_within,
    count_sign_errors,
    held_out_mean,
    mean_regret,
    predict_held_out,
    rank_correlation,
)

NAN = float("nan")


def test_rank_correlation_is_scipys_over_the_known_cells() -> None:
    rng = np.random.default_rng(1)
    score, gain = rng.integers(5, size=30).astype(float), rng.normal(size=30)
    score[[3, 7]] = NAN
    known = ~np.isnan(score)
    expected = stats.spearmanr(score[known], gain[known]).statistic
    assert rank_correlation(score, gain) == pytest.approx(expected, abs=1e-12)


def test_without_two_different_values_there_is_no_rank_correlation() -> None:
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None
    assert rank_correlation(np.array([1.0, 2.0, NAN]), np.arange(3.0)) is None


def test_an_interval_is_over_clusters_not_cells() -> None:
    """One cluster ranks rightly and one wrongly: a quarter of the draws has only the one, a quarter only the other."""
    score = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    gain = np.array([1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    found = correlate(score, gain, np.array([0, 0, 0, 1, 1, 1]), np.random.default_rng(3))
    assert found.value == pytest.approx(0.0)
    assert (found.low, found.high, found.n) == (pytest.approx(-1.0), pytest.approx(1.0), 6)


def test_a_perfect_score_has_an_interval_of_one_point() -> None:
    gain = np.arange(12.0)
    found = correlate(gain**3, gain, np.arange(12) // 2, np.random.default_rng(3))
    assert (found.low, found.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_within_blocks_differences_between_blocks_do_not_count() -> None:
    """Reversed in each of two blocks, though the better block has the higher scores."""
    score = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    gain = np.array([3.0, 2.0, 1.0, 33.0, 32.0, 31.0])
    blocks = np.array([0, 0, 0, 1, 1, 1])
    assert rank_correlation(score, gain) == pytest.approx(1.0 - 6 * 4 * 4 / (6 * 35))
    assert correlate_within(score, gain, blocks) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("score", "has_zero", "expected"),
    [
        ([0.1, 0.3, 0.2], True, Choice(1, -0.2, 0.6)),
        ([-0.1, -0.3, -0.2], True, Choice(None, 0.0, 0.4)),
        ([-0.1, -0.3, -0.2], False, Choice(0, 0.4, 0.0)),
        ([NAN, NAN, 0.2], True, Choice(2, 0.1, 0.3)),
    ],
)
def test_a_choice_and_its_regret(score: list[float], has_zero: bool, expected: Choice) -> None:
    found = choose(np.array(score), np.array([0.4, -0.2, 0.1]), has_zero=has_zero)
    assert found is not None
    assert found.chosen == expected.chosen
    assert (found.gain, found.regret) == (pytest.approx(expected.gain), pytest.approx(expected.regret))


def test_where_every_teacher_harms_no_teacher_is_best() -> None:
    score, gain = np.array([0.5, -0.5]), np.array([-0.1, -0.3])
    warned = choose(-np.abs(score), gain, has_zero=True)
    assert warned == Choice(None, 0.0, 0.0)
    assert mean_regret(score, gain, np.zeros(2, int), has_zero=True) == pytest.approx(0.1)
    assert choose(np.array([NAN, NAN]), gain, has_zero=True) is None


def test_sign_errors_are_counted_both_ways_where_the_gain_is_told() -> None:
    score = np.array([1.0, 1.0, -1.0, -1.0, -1.0, NAN, 1.0])
    gain = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    told = np.array([True, True, True, True, True, True, False])
    assert count_sign_errors(score, gain, told) == (1, 2, 5)


def test_a_straight_line_is_found_and_foretells_other_teachers() -> None:
    score = np.array([0.0, 1.0, 2.0, NAN, 4.0, 5.0])
    found = calibrate(score, 0.1 + 0.3 * np.nan_to_num(score), np.array([0, 0, 1, 1, 2, 2]))
    assert found == (pytest.approx(0.3), pytest.approx(0.1), pytest.approx(0.0, abs=1e-12))


def test_a_held_out_prediction_is_ridge_regression_on_the_others() -> None:
    """Against the normal equations written out, with the constant as a column that is not penalised."""
    rng = np.random.default_rng(5)
    scores, gain, teachers = rng.normal(size=(10, 2)), rng.normal(size=10), np.repeat(np.arange(5), 2)
    found = predict_held_out(scores, gain, teachers, ridge=1.0)
    for teacher in range(5):
        held = teachers == teacher
        centre, spread = scores[~held].mean(0), scores[~held].std(0)
        design = np.column_stack([np.ones(8), (scores[~held] - centre) / spread])
        weights = np.linalg.solve(design.T @ design + np.diag([0.0, 1.0, 1.0]), design.T @ gain[~held])
        expected = np.column_stack([np.ones(2), (scores[held] - centre) / spread]) @ weights
        np.testing.assert_allclose(found[held], expected, rtol=1e-10)


def test_a_prediction_never_sees_its_own_teachers_gain() -> None:
    rng = np.random.default_rng(6)
    scores, gain, teachers = rng.normal(size=(8, 3)), rng.normal(size=8), np.repeat(np.arange(4), 2)
    before = predict_held_out(scores, gain, teachers, ridge=1.0)
    gain[:2] += 100.0
    after = predict_held_out(scores, gain, teachers, ridge=1.0)
    np.testing.assert_array_equal(before[:2], after[:2])
    assert (np.abs(after[2:] - before[2:]) > 1.0).all()


def test_an_unknown_score_is_predicted_like_a_middling_one() -> None:
    scores = np.array([[NAN], [1.0], [2.0], [3.0], [4.0], [5.0]])
    gain = scores[:, 0].copy()
    gain[0] = 0.0
    found = predict_held_out(scores, gain, np.arange(6), ridge=0.0)
    assert found[0] == pytest.approx(3.0)


def test_knowing_nothing_predicts_the_other_teachers_mean() -> None:
    np.testing.assert_allclose(held_out_mean(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 1])), [8.0, 8.0, 2.0])
