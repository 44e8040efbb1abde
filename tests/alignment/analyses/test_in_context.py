"""Accuracy by difficulty, counted by hand."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hydrometer.alignment import accuracy_by_difficulty
from hydrometer.alignment.analyses.in_context import difficulty_bins


def test_thirds_keep_equal_rates_together():
    assert difficulty_bins(np.array([0.9, 0.1, 0.5, 0.2, 0.6, 0.8])).tolist() == [2, 0, 1, 0, 1, 2]
    assert difficulty_bins(np.array([0.0, 0.0, 0.0, 0.0, 0.5, 1.0])).tolist() == [1, 1, 1, 1, 2, 2]
    assert difficulty_bins(np.array([0.5, 0.5])).tolist() == [1, 1]


def test_counts_intervals_and_gain_by_hand():
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    questions = pl.DataFrame({"question_id": [f"q{i}" for i in range(9)], "success_rate": rates})
    rng = np.random.default_rng(0)
    rows = [
        {"question_id": f"q{i}", "teacher": teacher, "rollout_id": r, "correct": bool(rng.random() < chance)}
        for i, rate in enumerate(rates)
        for teacher, chance, count in (("none", rate, 6), ("answer", 0.5 + rate / 2, 5))
        for r in range(count)
        if not (teacher == "answer" and i == 4)
    ]
    table = accuracy_by_difficulty(pl.DataFrame(rows), questions, baseline="none")
    found = {(row["teacher"], row["bin"]): row for row in table}
    assert set(found) == {(t, b) for t in ("none", "answer") for b in (None, 0, 1, 2)}
    for level, members in ((None, range(9)), (0, range(3)), (1, range(3, 6)), (2, range(6, 9))):
        row = found["answer", level]
        own = [r for r in rows if r["teacher"] == "answer" and int(r["question_id"][1:]) in members]
        correct = sum(r["correct"] for r in own)
        assert (row["n_rollouts"], row["n_correct"]) == (len(own), correct)
        assert row["accuracy"]["value"] == pytest.approx(correct / len(own))
        low = stats.beta.ppf(0.025, correct + 0.5, len(own) - correct + 0.5)
        assert row["these_questions"][0] == pytest.approx(low if correct else 0.0)
        gains = []
        for i in members:
            a, b = (
                [r["correct"] for r in rows if r["teacher"] == t and r["question_id"] == f"q{i}"]
                for t in ("answer", "none")
            )
            if a:
                gains.append(np.mean(a) - np.mean(b))
        assert row["gain"]["value"] == pytest.approx(np.mean(gains))
        assert row["gain"]["n_questions"] == len(gains)
    assert found["answer", None]["gain"]["interval"][0] < found["answer", None]["gain"]["value"]
    assert found["answer", 0]["gain"]["interval_reason"] == "fewer_than_5_questions"
    assert found["none", 0]["gain"] is None and found["none", 0]["gain_reason"] == "no_baseline"
    assert (found["answer", 1]["success_rate_from"], found["answer", 1]["success_rate_to"]) == (0.4, 0.6)


def test_what_cannot_be_binned_is_refused():
    questions = pl.DataFrame({"question_id": ["q0"], "success_rate": [0.5]})
    rows = pl.DataFrame({"question_id": ["q1"], "teacher": ["t"], "rollout_id": [0], "correct": [True]})
    with pytest.raises(ValueError, match="no base success rate of q1"):
        accuracy_by_difficulty(rows, questions)
    with pytest.raises(ValueError, match="'none' has no rollouts"):
        accuracy_by_difficulty(rows.with_columns(question_id=pl.lit("q0")), questions, baseline="none")


def test_questions_that_all_agree_give_no_interval_of_width_0():
    questions = pl.DataFrame({"question_id": [f"q{i}" for i in range(6)], "success_rate": [0.5] * 6})
    rows = [
        {"question_id": f"q{i}", "teacher": teacher, "rollout_id": r, "correct": correct}
        for i in range(6)
        for teacher, correct in (("none", False), ("answer", True))
        for r in range(2)
    ]
    table = accuracy_by_difficulty(pl.DataFrame(rows), questions, baseline="none")
    row = next(row for row in table if row["teacher"] == "answer" and row["bin"] is None)
    for entry in (row["accuracy"], row["gain"]):
        assert entry["value"] == 1.0
        assert entry["interval"] is None
        assert entry["interval_reason"] == "no_variation_between_questions"
    assert 0.7 < row["these_questions"][0] < row["these_questions"][1] == 1.0


def test_an_accuracy_has_no_interval_below_0():
    questions = pl.DataFrame({"question_id": [f"q{i}" for i in range(8)], "success_rate": [0.5] * 8})
    rows = [
        {"question_id": f"q{i}", "teacher": "t", "rollout_id": r, "correct": i == 0 and r == 0}
        for i in range(8)
        for r in range(2)
    ]
    [row, _] = accuracy_by_difficulty(pl.DataFrame(rows), questions)
    assert row["accuracy"]["interval"][0] == 0.0 < row["accuracy"]["value"] == 1 / 16
