"""How well scores foretell gains: statistics of pairs (score, gain), one pair per cell.

    rank correlation   Spearman's; interval: clusters (cells, or teachers with all their cells) drawn with replacement
    within blocks      the mean over blocks of the rank correlation in each
    regret             mean over blocks of the best gain minus the gain of the cell with the highest score;
                       where a score has a zero, `no teacher` (score 0, gain 0) can be chosen too and be the best
    sign errors        cells whose score and gain lie on different sides of 0
    calibration        least squares gain = a + b score, and the mean error of a line fitted without the cell's teacher
    combined           ridge regression on standardised scores, fitted without the teacher that it is applied to

A score that is null (NaN here) in a cell leaves that cell out, and can't be chosen.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

RESAMPLES = 1000
COVERED = (2.5, 97.5)
Values = Float[np.ndarray, " cell"]
Labels = Int[np.ndarray, " cell"]


class Correlation(NamedTuple):
    """A rank correlation with its interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Cells."""


def rank_correlation(score: Values, gain: Values) -> float | None:
    """Spearman's, over the cells where the score is known; None for fewer than three, or where one side is constant."""
    known = ~np.isnan(score)
    score, gain = score[known], gain[known]
    if len(score) < 3 or np.ptp(score) == 0.0 or np.ptp(gain) == 0.0:
        return None
    ranks = [stats.rankdata(values) - (len(values) + 1) / 2 for values in (score, gain)]
    return float(ranks[0] @ ranks[1] / np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))


def correlate(score: Values, gain: Values, clusters: Labels, rng: np.random.Generator) -> Correlation:
    """The rank correlation, and its percentile interval for other clusters."""
    low, high = _bootstrap(lambda rows: rank_correlation(score[rows], gain[rows]), clusters, rng)
    return Correlation(rank_correlation(score, gain), low, high, int((~np.isnan(score)).sum()))


def _bootstrap(
    statistic: Callable[[Labels], float | None], clusters: Labels, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    members = [np.flatnonzero(clusters == label) for label in np.unique(clusters)]
    draws = rng.integers(len(members), size=(RESAMPLES, len(members)))
    found = [statistic(np.concatenate([members[place] for place in draw])) for draw in draws]
    values = [value for value in found if value is not None]
    if len(values) < RESAMPLES / 2:
        return None, None
    low, high = np.percentile(values, COVERED)
    return float(low), float(high)


def correlate_within(score: Values, gain: Values, blocks: Labels) -> float | None:
    """Mean over blocks of the rank correlation in each, over the blocks that have one."""
    found = [rank_correlation(score[blocks == block], gain[blocks == block]) for block in np.unique(blocks)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


class Choice(NamedTuple):
    """What choosing by a score leads to in one block."""

    chosen: int | None
    """Place of the cell among those of the block; None for `no teacher`."""
    gain: float
    regret: float


def choose(score: Values, gain: Values, *, has_zero: bool) -> Choice | None:
    """The cell of highest score in a block, or no teacher; None where no score is known."""
    if np.isnan(score).all():
        return None
    chosen = int(np.nanargmax(score))
    best = float(gain.max())
    if has_zero and score[chosen] <= 0.0:
        return Choice(None, 0.0, max(best, 0.0))
    return Choice(chosen, float(gain[chosen]), (max(best, 0.0) if has_zero else best) - float(gain[chosen]))


def mean_regret(score: Values, gain: Values, blocks: Labels, *, has_zero: bool) -> float | None:
    """Over the blocks where something can be chosen."""
    found = [choose(score[blocks == block], gain[blocks == block], has_zero=has_zero) for block in np.unique(blocks)]
    known = [choice.regret for choice in found if choice is not None]
    return float(np.mean(known)) if known else None


class SignErrors(NamedTuple):
    """Cells on the wrong side of 0."""

    promised: int
    """Score above 0, gain below."""
    warned: int
    """Score below 0, gain above."""
    of: int
    """Cells that were looked at."""


def count_sign_errors(score: Values, gain: Values, told: Bool[np.ndarray, " cell"]) -> SignErrors:
    """Over cells whose gain was told from 0."""
    known = told & ~np.isnan(score)
    promised = known & (score > 0.0) & (gain < 0.0)
    warned = known & (score < 0.0) & (gain > 0.0)
    return SignErrors(int(promised.sum()), int(warned.sum()), int(known.sum()))


class Calibration(NamedTuple):
    """A line from score to gain."""

    slope: float | None
    intercept: float | None
    error: float | None
    """Mean absolute error for teachers that the line was not fitted on."""


def calibrate(score: Values, gain: Values, teachers: Labels) -> Calibration:
    """Fit the line; its error leaving one teacher out."""
    known = ~np.isnan(score)
    if known.sum() < 3 or np.ptp(score[known]) == 0.0:
        return Calibration(None, None, None)
    score, gain, teachers = score[known], gain[known], teachers[known]
    predicted = predict_held_out(score[:, None], gain, teachers, ridge=0.0)
    slope, intercept = np.polyfit(score, gain, 1)
    return Calibration(float(slope), float(intercept), float(np.abs(predicted - gain).mean()))


def predict_held_out(
    scores: Float[np.ndarray, "cell score"], gain: Values, teachers: Labels, *, ridge: float
) -> Values:
    """The gain of every cell from a regression on the cells of the other teachers.

    Scores are standardised over those cells, an unknown one stands at their mean; the penalty `ridge` |b|^2 is added to
    the sum of squared errors.
    """
    predicted = np.full(len(gain), np.nan)
    for teacher in np.unique(teachers):
        held = teachers == teacher
        centre, spread = np.nanmean(scores[~held], 0), np.nanstd(scores[~held], 0)
        standard = np.nan_to_num((scores - centre) / np.where(spread > 0.0, spread, 1.0))
        design, mean = standard[~held], gain[~held].mean()
        weights = np.linalg.pinv(design.T @ design + ridge * np.eye(scores.shape[1])) @ design.T @ (gain[~held] - mean)
        predicted[held] = mean + standard[held] @ weights
    return predicted


def held_out_mean(gain: Values, teachers: Labels) -> Values:
    """What knowing no score predicts: the mean gain of the other teachers' cells."""
    return np.array([gain[teachers != teacher].mean() for teacher in teachers])
