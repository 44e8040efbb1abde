"""How often the student is right when it is shown each context, by difficulty of the question.

    bin = third of the questions by base success rate (equal rates share a bin), 0 the hardest
    accuracy = correct / rollouts in the bin, with its Jeffreys interval (these questions, these many rollouts)
    gain = accuracy with the context - accuracy of the baseline context over the same questions, jackknife over them

The baseline has to be sampled anew like every context: the base success rate chose the bin, so that the luck of the
hardest third would look like a gain of any context.
"""

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from hydrometer.alignment.entries import NO_VALUE, describe
from hydrometer.alignment.intervals import SHARE, Jackknife, jackknife, mean_of_sums
from hydrometer.success.rates import jeffreys_interval

BINS = 3
NO_BASELINE = "no_baseline"
NO_SHARED_QUESTION = "no_shared_question"
NO_VARIATION = "no_variation_between_questions"


def accuracy_by_difficulty(
    context_rollouts: pl.DataFrame, questions: pl.DataFrame, *, baseline: str | None = None
) -> list[dict[str, Any]]:
    """One row per teacher (context) and difficulty bin that has a rollout, and one per teacher with bin null for all.

    Args:
        context_rollouts: question_id, teacher, rollout_id, correct; what the student did when it saw the context.
        questions: `questions.parquet`; uses question_id and success_rate.
        baseline: the value of `teacher` whose rollouts saw no context.

    Raises:
        ValueError: a question without a base success rate, or a baseline that is not in the table.
    """
    unknown = set(context_rollouts["question_id"]) - set(questions.drop_nulls("success_rate")["question_id"])
    if unknown:
        raise ValueError(f"no base success rate of {', '.join(sorted(unknown)[:5])}")
    teachers = context_rollouts["teacher"].unique().sort().to_list()
    if baseline is not None and baseline not in teachers:
        raise ValueError(f"the baseline '{baseline}' has no rollouts; there are {', '.join(teachers)}")
    known = questions.drop_nulls("success_rate").sort("question_id")
    bins = difficulty_bins(known["success_rate"].to_numpy())
    counts = _counts(context_rollouts, known["question_id"].to_list(), teachers)
    rates = known["success_rate"].to_numpy()
    rows = []
    for level in (None, *range(BINS)):
        members = np.ones(len(bins), dtype=bool) if level is None else bins == level
        for index, teacher in enumerate(teachers):
            own = counts[index, members]
            if own[:, 0].sum() > 0:
                other = None if baseline is None else counts[teachers.index(baseline), members]
                row = _row(own, None if teacher == baseline else other, rates[members][own[:, 0] > 0])
                rows.append({"teacher": teacher, "bin": level} | row)
    return rows


def difficulty_bins(success_rates: Float[np.ndarray, " question"]) -> Int[np.ndarray, " question"]:
    """Third of each question by success rate, 0 the hardest; equal rates go to one bin, that of their middle."""
    _, level = np.unique(success_rates, return_inverse=True)
    counts = np.bincount(level)
    middle = np.cumsum(counts) - counts / 2.0
    return np.minimum((BINS * middle / max(len(success_rates), 1)).astype(np.int64), BINS - 1)[level]


def _counts(rollouts: pl.DataFrame, questions: list[str], teachers: list[str]) -> Int[np.ndarray, "teacher question 2"]:
    """Rollouts and correct ones."""
    place = {name: index for index, name in enumerate(questions)}
    out = np.zeros((len(teachers), len(questions), 2), dtype=np.int64)
    grouped = rollouts.group_by("teacher", "question_id").agg(pl.len(), pl.col("correct").sum())
    for teacher, question, total, correct in grouped.iter_rows():
        out[teachers.index(teacher), place[question]] = total, correct
    return out


def _row(
    own: Int[np.ndarray, "question 2"],
    other: Int[np.ndarray, "question 2"] | None,
    rates: Float[np.ndarray, " used"],
) -> dict[str, Any]:
    total, correct = own.sum(0)
    low, high = jeffreys_interval(np.array([correct]), np.array([total]))
    accuracy = jackknife(mean_of_sums, own.astype(np.float64), own[:, 0] > 0, limits=SHARE)
    row: dict[str, Any] = {
        "success_rate_from": float(rates.min()),
        "success_rate_to": float(rates.max()),
        "n_rollouts": int(total),
        "n_correct": int(correct),
        "accuracy": _describe(accuracy),
        "these_questions": [float(low[0]), float(high[0])],
        "gain": None,
        "gain_reason": NO_BASELINE,
    }
    if other is not None:
        row |= {"gain": _describe(_gain(own, other), reason=NO_SHARED_QUESTION), "gain_reason": None}
    return row


def _gain(own: Int[np.ndarray, "question 2"], other: Int[np.ndarray, "question 2"]) -> Jackknife:
    """Over the questions that both have: each question's difference of accuracies, averaged."""
    shared = (own[:, 0] > 0) & (other[:, 0] > 0)
    gaps = np.divide(own[:, 1], own[:, 0], out=np.zeros(len(own)), where=shared)
    gaps -= np.divide(other[:, 1], other[:, 0], out=np.zeros(len(own)), where=shared)
    return jackknife(mean_of_sums, np.stack([shared.astype(np.float64), gaps], axis=1), shared, limits=(-1.0, 1.0))


def _describe(result: Jackknife, *, reason: str = NO_VALUE) -> dict[str, Any]:
    """An estimate; where all questions say the same, an interval over questions would claim perfect precision."""
    entry = describe(result, reason=reason)
    if entry["interval"] and float(result.standard_error) == 0.0:
        entry |= {"interval": None, "interval_reason": NO_VARIATION}
    return entry
