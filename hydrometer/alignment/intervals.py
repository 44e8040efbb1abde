"""95 % intervals over questions: delete one question, redo every correction, and scale by Student's t.

    theta_(i) = statistic(sums without question i)
    se^2 = (Q - 1) / Q  sum_i (theta_(i) - mean)^2,   interval theta +- t_{Q-1} se

Questions are the unit that is drawn at random; nodes of one question are not independent, so that a node-level
standard error would be too small. Below five questions no interval is given, and none where a leave-one-out statistic
is undefined.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

MIN_QUESTIONS = 5
"""Fewer questions give no interval."""
CONFIDENCE = 0.95


class Jackknife(NamedTuple):
    """An estimate, its leave-one-out copies and its interval (NaN where none is given)."""

    value: Float[np.ndarray, "*arms"]
    left_out: Float[np.ndarray, "question ..."]
    standard_error: Float[np.ndarray, "*arms"]
    low: Float[np.ndarray, "*arms"]
    high: Float[np.ndarray, "*arms"]
    n_questions: Int[np.ndarray, "*arms"]


def jackknife(
    statistic: Callable[[np.ndarray], np.ndarray],
    sums: Float[np.ndarray, "question *arms term"],
    contributes: Bool[np.ndarray, "question ..."],
) -> Jackknife:
    """Delete-one-question jackknife of a function of sums.

    Args:
        statistic: maps sums over nodes (last axis the terms) to values; NaN where undefined.
        sums: per-question sums.
        contributes: whether a question has a node in the statistic; the others change nothing and are not counted.
    """
    total = sums.sum(0)
    value = statistic(total)
    left_out = statistic(total - sums)
    n_questions = contributes.sum(0)
    return _interval(value, left_out, contributes, n_questions)


def _interval(
    value: Float[np.ndarray, "*arms"],
    left_out: Float[np.ndarray, "question ..."],
    contributes: Bool[np.ndarray, "question ..."],
    n_questions: Int[np.ndarray, "*arms"],
) -> Jackknife:
    count = np.maximum(n_questions, 1)
    copies = np.where(contributes, left_out, 0.0)
    mean = copies.sum(0) / count
    square = (np.where(contributes, left_out - mean, 0.0) ** 2).sum(0)
    error = np.sqrt((count - 1) / count * square)
    is_given = (n_questions >= MIN_QUESTIONS) & np.isfinite(value) & np.isfinite(error)
    error = np.where(is_given, error, np.nan)
    reach = error * stats.t.ppf(0.5 + CONFIDENCE / 2, np.maximum(n_questions - 1, 1))
    return Jackknife(value, left_out, error, value - reach, value + reach, n_questions)


def difference(first: Jackknife, second: Jackknife) -> Jackknife:
    """Interval of first - second over the same questions; the smaller number of questions gives the degrees of freedom.

    A question with nodes in only one of the two moves only that one; deleting it is still one deletion.
    """
    value = first.value - second.value
    left_out = first.left_out - second.left_out
    n_questions = np.minimum(first.n_questions, second.n_questions)
    total = len(left_out)
    mean = left_out.mean(0) if total else np.zeros_like(value)
    error = np.sqrt((total - 1) / max(total, 1) * ((left_out - mean) ** 2).sum(0))
    is_given = (n_questions >= MIN_QUESTIONS) & np.isfinite(value) & np.isfinite(error)
    error = np.where(is_given, error, np.nan)
    reach = error * stats.t.ppf(0.5 + CONFIDENCE / 2, np.maximum(n_questions - 1, 1))
    return Jackknife(value, left_out, error, value - reach, value + reach, n_questions)
