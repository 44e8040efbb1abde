"""95 % intervals over questions: delete one question, redo every correction, and scale by Student's t.

    theta_(i) = statistic(sums without question i)
    se^2 = (Q - 1) / Q  sum_i (theta_(i) - mean)^2,   interval theta +- t_nu se
    nu = (Q - 1) / (1 + max(0, kurtosis) (Q - 1) / (2 Q))

Questions are the unit that is drawn at random; nodes of one question are not independent, so that a node-level
standard error would be too small. Below five questions no interval is given, and none where a leave-one-out statistic
is undefined.

Departures from the plain jackknife with t on Q - 1 degrees of freedom, whose simulated coverage falls to 0.91 at eight
questions (docs/validity.md). Questions differ a lot, and a few heavy ones make se itself uncertain: nu is the number
of degrees of freedom that matches the variance of se^2, with the sample excess kurtosis of the copies (Q - 1 unless
that is positive). The pooled cosine is moreover a ratio whose distribution leans towards 0 when it is large: its
interval is widened to hold the one of arctanh(theta) with Q - 1 degrees of freedom, where the estimate and all its
copies lie within (-1, 1).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

MIN_QUESTIONS = 5
"""Fewer questions give no interval."""
CONFIDENCE = 0.95
CORRELATION = (-1.0, 1.0)
SHARE = (0.0, 1.0)


class Jackknife(NamedTuple):
    """An estimate, its leave-one-out copies and its interval (NaN where none is given)."""

    value: Float[np.ndarray, "*arms"]
    left_out: Float[np.ndarray, "question ..."]
    standard_error: Float[np.ndarray, "*arms"]
    low: Float[np.ndarray, "*arms"]
    high: Float[np.ndarray, "*arms"]
    n_questions: Int[np.ndarray, "*arms"]


def ratio(top: Float[np.ndarray, "*batch"], bottom: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """Of two sums; NaN where the lower one is not above 0."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0.0)


def mean_of_sums(sums: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
    """The mean of count (or weight) and total; NaN where nothing was counted."""
    return ratio(sums[..., 1], sums[..., 0])


def jackknife(
    statistic: Callable[[np.ndarray], np.ndarray],
    sums: Float[np.ndarray, "question *arms term"],
    contributes: Bool[np.ndarray, "question ..."],
    *,
    limits: tuple[float, float] | None = None,
    is_ratio: bool = False,
    confidence: float = CONFIDENCE,
) -> Jackknife:
    """Delete-one-question jackknife of a function of sums.

    Args:
        statistic: maps sums over nodes (last axis the terms) to values; NaN where undefined.
        sums: per-question sums.
        contributes: whether a question has a node in the statistic; the others change nothing and are not counted.
        limits: what the quantity can be; interval ends beyond are cut off (but hold the estimate).
        is_ratio: span the arctanh interval too.
        confidence: of the interval; a run that looked before it ended needs more (see `looks`).
    """
    total = sums.sum(0)
    value, left_out = np.asarray(statistic(total)), statistic(total - sums)
    return jackknife_of_copies(value, left_out, contributes, limits=limits, is_ratio=is_ratio, confidence=confidence)


def jackknife_of_copies(
    value: Float[np.ndarray, "*arms"],
    left_out: Float[np.ndarray, "question ..."],
    contributes: Bool[np.ndarray, "question ..."],
    *,
    limits: tuple[float, float] | None = None,
    is_ratio: bool = False,
    confidence: float = CONFIDENCE,
) -> Jackknife:
    """The same from an estimate and its leave-one-out copies, for statistics that are no functions of sums."""
    n_questions = np.asarray(contributes.sum(0))
    error = _standard_error(left_out, contributes)
    error = np.where((n_questions >= MIN_QUESTIONS) & np.isfinite(value), error, np.nan)
    reach = error * _t_quantile(matched_degrees(left_out, contributes), confidence)
    low, high = np.asarray(value - reach), np.asarray(value + reach)
    if is_ratio:
        low, high = _spanned(low, high, value, left_out, contributes, confidence)
    if limits is not None:
        low, high = np.maximum(low, np.minimum(limits[0], value)), np.minimum(high, np.maximum(limits[1], value))
    return Jackknife(value, left_out, error, low, high, n_questions)


def difference(first: Jackknife, second: Jackknife) -> Jackknife:
    """Interval of first - second over the same questions (see `contrast`)."""
    return contrast([first, second], [1.0, -1.0])


def contrast(parts: Sequence[Jackknife], coefficients: Sequence[float]) -> Jackknife:
    """Interval of a sum of estimates over the same questions; the fewest questions give the degrees of freedom.

    A question with nodes in only some of the parts moves only those; deleting it is still one deletion.
    """
    pairs = list(zip(parts, coefficients, strict=True))
    value = np.asarray(sum(factor * part.value for part, factor in pairs))
    left_out = np.asarray(sum(factor * part.left_out for part, factor in pairs))
    n_questions = np.asarray(np.minimum.reduce([part.n_questions for part in parts]))
    error = _standard_error(left_out, np.ones(left_out.shape, dtype=bool))
    error = np.where((n_questions >= MIN_QUESTIONS) & np.isfinite(value), error, np.nan)
    reach = error * _t_quantile(np.maximum(n_questions - 1.0, 1.0))
    return Jackknife(value, left_out, error, value - reach, value + reach, n_questions)


def _standard_error(
    left_out: Float[np.ndarray, "question ..."], contributes: Bool[np.ndarray, "question ..."]
) -> Float[np.ndarray, "*arms"]:
    """NaN as soon as one contributing copy is."""
    count = np.maximum(contributes.sum(0), 1)
    deviations = _deviations(left_out, contributes)
    return np.asarray(np.sqrt((count - 1) / count * (deviations**2).sum(0)))


def _deviations(
    left_out: Float[np.ndarray, "question ..."], contributes: Bool[np.ndarray, "question ..."]
) -> Float[np.ndarray, "question ..."]:
    """Contributing copies minus their mean, 0 elsewhere."""
    mean = np.where(contributes, left_out, 0.0).sum(0) / np.maximum(contributes.sum(0), 1)
    return np.where(contributes, left_out - mean, 0.0)


def matched_degrees(
    left_out: Float[np.ndarray, "question ..."], contributes: Bool[np.ndarray, "question ..."]
) -> Float[np.ndarray, "*arms"]:
    """Degrees of freedom of se^2 by matching its variance, 2 / (Q - 1) + kurtosis / Q in units of its square."""
    count = np.maximum(contributes.sum(0), 4.0)
    deviations = _deviations(left_out, contributes)
    second, fourth = (deviations**2).sum(0) / count, (deviations**4).sum(0) / count
    varies = second > 0.0
    ratio = np.divide(fourth, second**2, out=np.full(np.shape(second), 3.0), where=varies & np.isfinite(fourth))
    excess = (count - 1.0) / ((count - 2.0) * (count - 3.0)) * ((count + 1.0) * (ratio - 3.0) + 6.0)
    return np.asarray((count - 1.0) / (1.0 + np.maximum(excess, 0.0) * (count - 1.0) / (2.0 * count)))


def _t_quantile(
    degrees: Float[np.ndarray, "*arms"] | float, confidence: float = CONFIDENCE
) -> Float[np.ndarray, "*arms"]:
    return np.asarray(special.stdtrit(degrees, 0.5 + confidence / 2))


def student_quantile(left_out: Float[np.ndarray, "question ..."], confidence: float) -> Float[np.ndarray, "*arms"]:
    """How many standard errors an interval of a statistic with these copies reaches."""
    return _t_quantile(matched_degrees(left_out, np.ones(left_out.shape, dtype=bool)), confidence)


def joint_variances(
    first: Float[np.ndarray, "question ..."], second: Float[np.ndarray, "question ..."]
) -> tuple[Float[np.ndarray, "*arms"], Float[np.ndarray, "*arms"], Float[np.ndarray, "*arms"]]:
    """Jackknife variance of a first statistic, its covariance with a second one, and the variance of that."""
    count = len(first)
    own, other = first - first.mean(0), second - second.mean(0)
    share = (count - 1) / count
    products = (own * own, own * other, other * other)
    own_variance, covariance, other_variance = (np.asarray(share * product.sum(0)) for product in products)
    return own_variance, covariance, other_variance


def _spanned(
    low: Float[np.ndarray, "*arms"],
    high: Float[np.ndarray, "*arms"],
    value: Float[np.ndarray, "*arms"],
    left_out: Float[np.ndarray, "question ..."],
    contributes: Bool[np.ndarray, "question ..."],
    confidence: float,
) -> tuple[Float[np.ndarray, "*arms"], Float[np.ndarray, "*arms"]]:
    """The interval on the plain scale, widened to hold the one on the arctanh scale where that exists."""
    inside = (np.abs(value) < 1.0) & np.logical_and.reduce((np.abs(left_out) < 1.0) | ~contributes, axis=0)
    centre = np.arctanh(np.where(inside, value, 0.0))
    copies = np.arctanh(np.where(inside & contributes, left_out, 0.0))
    reach = _standard_error(copies, contributes) * _t_quantile(np.maximum(contributes.sum(0) - 1.0, 1.0), confidence)
    return (
        np.where(inside, np.minimum(low, np.tanh(centre - reach)), low),
        np.where(inside, np.maximum(high, np.tanh(centre + reach)), high),
    )
