"""Success rates from counts: the rate, the unbiased variance of the rate, and its Jeffreys interval.

    S = successes / visits        Var(S) = S (1 - S) / (visits - 1)        [low, high] = Beta(s + 1/2, n - s + 1/2)

Arrays of any shape in, float64 arrays of that shape out; NaN stands for null (too little data is said, not zeroed).
The rollouts through one (node, token) are independent draws, so these hold for each pair by itself; two pairs on one
path share rollouts.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer
from scipy.special import betaincinv


class RateInterval(NamedTuple):
    """Ends of an interval of success rates, in [0, 1]."""

    low: Float64[np.ndarray, "..."]
    high: Float64[np.ndarray, "..."]


def success_rate(
    successes: Integer[np.ndarray, "*shape"], visits: Integer[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Share of visits that succeed; NaN where there is none."""
    _refuse_impossible(successes, visits)
    return np.where(visits > 0, successes / np.maximum(visits, 1), np.nan)


def success_variance(
    successes: Integer[np.ndarray, "*shape"], visits: Integer[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Unbiased variance of the success rate, S (1 - S) / (n - 1); NaN below two visits.

    Its expectation over Bernoulli draws is the true variance S (1 - S) / n.
    """
    rate = success_rate(successes, visits)
    return np.where(visits > 1, rate * (1 - rate) / np.maximum(visits - 1, 1), np.nan)


def jeffreys_interval(
    successes: Integer[np.ndarray, "*shape"], visits: Integer[np.ndarray, "*shape"], *, level: float = 0.95
) -> RateInterval:
    """Equal-tailed Jeffreys interval of the success rate.

    Quantiles (1 - level)/2 and (1 + level)/2 of Beta(s + 1/2, n - s + 1/2), except that low is 0 where nothing
    succeeded and high is 1 where everything did; so [0, 1] without a visit.

    Reference: Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion, section 4.
    """
    _refuse_impossible(successes, visits)
    a, b = successes + 0.5, visits - successes + 0.5
    tail = (1 - level) / 2
    low = np.where(successes == 0, 0.0, betaincinv(a, b, tail))
    high = np.where(successes == visits, 1.0, betaincinv(a, b, 1 - tail))
    return RateInterval(low, high)


def _refuse_impossible(successes: Integer[np.ndarray, "*shape"], visits: Integer[np.ndarray, "*shape"]) -> None:
    impossible = (successes < 0) | (successes > visits)
    if impossible.any():
        raise ValueError(
            f"Expected 0 <= successes <= visits, got {successes[impossible][0]} of {visits[impossible][0]}."
        )
