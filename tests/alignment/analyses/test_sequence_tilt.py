"""The first derivative of expected success under a tilt of whole responses: enumeration, finite differences, loops."""

import itertools

import numpy as np
import polars as pl
import pytest

from hydrometer.alignment.analyses import has_tilt, sequence_tilt

LENGTH, VOCAB = 4, 3


def conditional(seed: int) -> dict[tuple[int, ...], np.ndarray]:
    """Next-token probabilities after every prefix."""
    rng = np.random.default_rng(seed)
    prefixes = [p for n in range(LENGTH) for p in itertools.product(range(VOCAB), repeat=n)]
    return {prefix: rng.dirichlet(np.ones(VOCAB) * 2) for prefix in prefixes}


def world(question: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of student and teacher, and outcome, of all 81 responses."""
    responses = list(itertools.product(range(VOCAB), repeat=LENGTH))
    p, q = (
        np.array([np.prod([given[y[:t]][y[t]] for t in range(LENGTH)]) for y in responses])
        for given in (conditional(2 * question), conditional(2 * question + 1))
    )
    correct = np.random.default_rng(900 + question).random(len(responses)) < 0.4
    return p, q, correct


def success(p: np.ndarray, q: np.ndarray, correct: np.ndarray, tilt: float) -> float:
    tilted = p ** (1 - tilt) * q**tilt
    return float(tilted[correct].sum() / tilted.sum())


def slope(question: int) -> float:
    step = 1e-5
    return (success(*world(question), step) - success(*world(question), -step)) / (2 * step)


def rows_of(question: int, drawn: np.ndarray, teacher: str = "t") -> pl.DataFrame:
    p, q, correct = world(question)
    return pl.DataFrame(
        {
            "question_id": f"q{question}",
            "rollout_id": np.arange(len(drawn)),
            "teacher": teacher,
            "tokens": LENGTH,
            "log_ratio_sum": np.log(q / p)[drawn],
            "correct": correct[drawn],
        }
    )


def test_the_covariance_over_all_responses_is_the_finite_difference() -> None:
    for question in range(6):
        p, q, correct = world(question)
        ratio = np.log(q / p)
        exact = (p * correct * ratio).sum() - (p * correct).sum() * (p * ratio).sum()
        assert exact == pytest.approx(slope(question), abs=1e-8)


def test_small_groups_are_unbiased() -> None:
    """Every ordered pair of nine equally likely responses as a question of its own: their mean is the derivative."""
    ratio = np.array([0.3, -1.2, 0.8, 2.0, -0.4, 0.0, 0.6, -2.5, 1.1])
    correct = np.array([True, False, True, False, False, True, True, False, False])
    pairs = list(itertools.product(range(9), repeat=2))
    table = pl.DataFrame(
        {
            "question_id": [f"{pair}" for pair in pairs for _ in pair],
            "rollout_id": [0, 1] * len(pairs),
            "teacher": "t",
            "tokens": 1,
            "log_ratio_sum": [ratio[i] for pair in pairs for i in pair],
            "correct": [correct[i] for pair in pairs for i in pair],
        }
    )
    p = np.full(9, 1 / 9)
    step = 1e-5
    rise = success(p, p * np.exp(ratio), correct, step) - success(p, p * np.exp(ratio), correct, -step)
    (row,) = sequence_tilt(table)
    assert row["derivative"]["value"] == pytest.approx(rise / (2 * step), abs=1e-8)
    assert row["derivative"]["n_questions"] == 81


def test_numbers_of_a_table_made_by_hand() -> None:
    table = pl.DataFrame(
        [
            ("a", 0, "t", 1, 1.0, True),
            ("a", 1, "t", 2, 4.0, False),  # 2 a token
            ("a", 2, "t", 4, 0.0, False),
            ("a", 3, "t", 1, None, True),  # unknown
            ("b", 0, "t", 1, 3.0, True),
            ("b", 1, "t", 1, -3.0, True),
            ("c", 0, "t", 1, 9.0, False),  # alone
            ("d", 0, "t", 1, 2.0, True),
            ("d", 1, "t", 1, 2.0, False),  # tie
        ],
        schema=["question_id", "rollout_id", "teacher", "tokens", "log_ratio_sum", "correct"],
        orient="row",
    )
    (row,) = sequence_tilt(table)
    # a: outcomes 1 0 0, sums 1 4 0: cross products (2/3)(-2/3) + (-1/3)(7/3) + (-1/3)(-5/3) = -2/3, over 2
    assert row["derivative"]["value"] == pytest.approx((-1 / 3 + 0 + 0) / 3)
    assert row["derivative"]["n_questions"] == 3
    assert row["derivative"]["interval_reason"] == "fewer_than_5_questions"
    # a: 1 against 2 loses, against 0 wins; d: a tie; b and c have no pair
    assert row["auroc"]["value"] == pytest.approx(0.5)
    assert row["auroc"]["n_questions"] == 2
    assert (row["n_rollouts"], row["n_unknown"]) == (8, 1)
    assert has_tilt([row])


def test_nothing_is_null_with_a_reason() -> None:
    alone = rows_of(0, np.array([3]))
    (row,) = sequence_tilt(alone)
    assert row["derivative"]["value"] is None
    assert row["derivative"]["reason"] == "no_question_with_two_scored_rollouts"
    assert row["auroc"]["reason"] == "no_question_with_both_outcomes"
    assert not has_tilt([row])
    assert sequence_tilt(alone.clear()) == []


def test_a_teacher_tilted_to_success_is_positive_and_its_mirror_image_negative() -> None:
    rng = np.random.default_rng(1)
    frames = []
    for question in range(8):
        p, _, correct = world(question)
        drawn = rng.choice(len(p), size=40, p=p / p.sum())
        good = rows_of(question, drawn, "good").with_columns(log_ratio_sum=pl.Series(correct[drawn] * 0.5))
        frames += [good, good.with_columns(teacher=pl.lit("bad"), log_ratio_sum=-pl.col("log_ratio_sum"))]
    bad, good = sequence_tilt(pl.concat(frames))
    assert good["derivative"]["interval"][0] > 0
    assert bad["derivative"]["value"] == pytest.approx(-good["derivative"]["value"])
    assert (good["auroc"]["value"], bad["auroc"]["value"]) == (1.0, 0.0)
