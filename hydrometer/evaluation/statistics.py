"""Accuracy and pass@K of a model with 95 % intervals over questions.

    accuracy (avg@k) = mean over questions of m_q,      m_q = correct samples of question q / its samples
    pass@K           = mean over questions of 1 - C(n - c, K) / C(n, K),   n samples of which c are correct
    interval         = mean -+ t_(Q-1) s / sqrt(Q),     s = standard deviation of the question values

Questions are the unit that is drawn at random, so samples are averaged within a question first: the delete-one-question
jackknife of a mean, which is the standard error clustered by question (arXiv 2411.00640). pass@K is the unbiased
estimate of the chance that one of K fresh samples is right (arXiv 2107.03374).

Departure from both: where every question value is 0, or every one is 1, s says nothing, and the interval is the exact
one of Q draws that all agree, [0, 1 - 0.025^(1/Q)] or its mirror image. It holds for any values within [0, 1], since
P(value = 1) <= E value.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from hydrometer.alignment.entries import FEW_QUESTIONS
from hydrometer.alignment.intervals import CONFIDENCE, MIN_QUESTIONS

ALL_ZERO = "all_differences_zero"


class Estimate(NamedTuple):
    """A mean over questions with its interval."""

    value: float
    low: float | None
    high: float | None
    n_questions: int
    reason: str | None = None
    """Why there is no interval."""

    def describe(self) -> dict[str, float | int | str | None]:
        """As it stands in `summary.json`."""
        return self._asdict()


def estimate_share(values: Float[np.ndarray, " question"]) -> Estimate:
    """Mean over questions of values within [0, 1]; the interval is cut off there.

    Raises:
        ValueError: no question, or a value outside [0, 1].
    """
    if not len(values) or values.min() < 0.0 or values.max() > 1.0:
        raise ValueError("shares are numbers within [0, 1], one per question")
    count = len(values)
    if count >= MIN_QUESTIONS and values.min() == values.max() and values[0] in (0.0, 1.0):
        reach = 1.0 - ((1.0 - CONFIDENCE) / 2.0) ** (1.0 / count)
        low, high = (0.0, reach) if values[0] == 0.0 else (1.0 - reach, 1.0)
        return Estimate(float(values[0]), low, high, count)
    found = estimate_mean(values)
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def estimate_difference(differences: Float[np.ndarray, " question"]) -> Estimate:
    """Mean over questions of paired differences; no interval where all of them are 0.

    Raises:
        ValueError: no question.
    """
    found = estimate_mean(differences)
    if found.reason is None and not differences.any():
        return found._replace(low=None, high=None, reason=ALL_ZERO)
    return found


def estimate_mean(values: Float[np.ndarray, " question"]) -> Estimate:
    """Mean over questions with t on Q - 1 degrees of freedom.

    Raises:
        ValueError: no question.
    """
    if not len(values):
        raise ValueError("a mean over questions needs one")
    count, mean = len(values), math.fsum(values) / len(values)
    if count < MIN_QUESTIONS:
        return Estimate(mean, None, None, count, FEW_QUESTIONS)
    reach = t_quantile(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - reach, mean + reach, count)


def t_quantile(degrees: int | float) -> float:
    """Half the width of a 95 % interval in standard errors."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees))


def pass_at(
    correct: Int[np.ndarray, " question"], samples: Int[np.ndarray, " question"], k: int
) -> Float[np.ndarray, " question"]:
    """Chance that one of K samples drawn without replacement from a question's n is correct, per question.

    Raises:
        ValueError: k is not within 1 .. n for some question.
    """
    if k < 1 or (len(samples) and k > samples.min()):
        raise ValueError(f"pass@{k} needs at least {k} samples of every question, and at least one")
    missed = [math.comb(int(n) - int(c), k) / math.comb(int(n), k) for c, n in zip(correct, samples, strict=True)]
    return 1.0 - np.array(missed, dtype=np.float64)


def pass_sizes(samples: int) -> tuple[int, ...]:
    """The powers of two up to the number of samples."""
    return tuple(2**i for i in range(samples.bit_length()))
