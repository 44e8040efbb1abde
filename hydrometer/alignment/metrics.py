"""Aggregates of an arm over nodes, as functions of per-question sums, so that every resampling of questions is a sum.

With W = path_weight x node_weight, over the nodes of a split:

    mean_cosine       = sum W cos / sum W                      eligible nodes with a direction
    fraction_positive = sum W [cos > 0] / sum W                the same nodes
    weighted_cosine   = sum W gap cos / sum W gap              the same, gap from one half of the rollouts, cos from the
                                                               other, the two ways averaged
    mean_advantage, mean_signal = sum W x / sum W              every node with >= 2 kept candidates
    pooled_cosine     = sum W g.d / sqrt((sum W |g|^2 - sum W noise) sum W |d|^2)      every such node
                        where d is sampled too (minillm), sum W g.d and sum W |d|^2 have their noise subtracted as well

`plain` leaves out the noise correction (pooled) or the halving (weighted). Departures from arXiv 2605.10889: the pooled
cosine and its correction, and the cross-fitted weight (from one set of rollouts a lucky gap picks its own sign).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hydrometer.alignment.intervals import CORRELATION, SHARE, ratio

TERMS = (
    *("nodes", "advantage", "signal", "inner", "ideal_square", "noise", "direction_square"),
    *("inner_noise", "direction_noise"),
    *("defined", "cosine", "positive", "gap", "gap_cosine"),
    *("gap_a", "gap_a_cosine_b", "gap_b", "gap_b_cosine_a"),
    *("defined_a", "cosine_a", "positive_a", "gap_own_a", "gap_cosine_a"),
    *("defined_b", "cosine_b", "positive_b", "gap_own_b", "gap_cosine_b"),
)
"""What is summed over the nodes of a question; every aggregate is a function of these sums."""
_AT = {name: index for index, name in enumerate(TERMS)}

Sums = Float[np.ndarray, "*batch term"]
Values = Float[np.ndarray, "*batch"]


def _ratio(sums: Sums, top: str, bottom: str) -> Values:
    return ratio(sums[..., _AT[top]], sums[..., _AT[bottom]])


def corrected_ideal_square(sums: Sums) -> Values:
    """Sum W (|g|^2 - noise): an unbiased estimate of the squared length of the noiseless ideal direction."""
    return np.asarray(sums[..., _AT["ideal_square"]] - sums[..., _AT["noise"]])


def corrected_direction_square(sums: Sums) -> Values:
    """Sum W |d|^2 without the noise of a field that is sampled itself."""
    return np.asarray(sums[..., _AT["direction_square"]] - sums[..., _AT["direction_noise"]])


def _corrected_pooled(sums: Sums) -> Values:
    inner = np.asarray(sums[..., _AT["inner"]] - sums[..., _AT["inner_noise"]])
    return _pooled(inner, corrected_ideal_square(sums), corrected_direction_square(sums))


def pooled_signal(sums: Sums) -> Values:
    """The pooled cosine times the length of the ideal direction, which is common to all arms: it needs no |g|^2."""
    return _pooled(
        np.asarray(sums[..., _AT["inner"]] - sums[..., _AT["inner_noise"]]),
        np.ones(sums.shape[:-1]),
        corrected_direction_square(sums),
    )


def ideal_length(sums: Sums) -> Values:
    """Length of the noiseless ideal direction; NaN where its square is not above 0."""
    square = corrected_ideal_square(sums)
    return np.sqrt(square, out=np.full_like(square, np.nan), where=square > 0.0)


def _plain_pooled(sums: Sums) -> Values:
    return _pooled(sums[..., _AT["inner"]], sums[..., _AT["ideal_square"]], sums[..., _AT["direction_square"]])


def _pooled(inner: Values, ideal_square: Values, direction_square: Values) -> Values:
    product = ideal_square * direction_square
    is_defined = (ideal_square > 0.0) & (product > 0.0)
    return np.divide(
        inner, np.sqrt(np.where(is_defined, product, 1.0)), out=np.full_like(inner, np.nan), where=is_defined
    )


def _cross_fitted(sums: Sums) -> Values:
    return np.asarray(0.5 * (_ratio(sums, "gap_a_cosine_b", "gap_a") + _ratio(sums, "gap_b_cosine_a", "gap_b")))


def _halves(top: str, bottom: str) -> Callable[[Sums], Values]:
    return lambda sums: 0.5 * (_ratio(sums, f"{top}_a", f"{bottom}_a") + _ratio(sums, f"{top}_b", f"{bottom}_b"))


@dataclass(frozen=True, slots=True)
class Metric:
    """One aggregate as functions of sums over nodes (last axis `TERMS`); NaN where undefined."""

    value: Callable[[Sums], Values]
    plain: Callable[[Sums], Values]
    counted: str
    """The node indicator (before weighting) of the nodes it is taken over."""
    limits: tuple[float, float] | None = None
    """What the quantity can be at infinite visits."""
    is_ratio: bool = False
    """A ratio with a random denominator (see `intervals`)."""
    at_half_visits: Callable[[Sums], Values] | None = None
    """The plain statistic of one half of the rollouts, averaged over both; only where noise attenuates."""


METRICS: Mapping[str, Metric] = {
    "mean_cosine": Metric(
        lambda sums: _ratio(sums, "cosine", "defined"),
        lambda sums: _ratio(sums, "cosine", "defined"),
        "defined",
        CORRELATION,
        at_half_visits=_halves("cosine", "defined"),
    ),
    "weighted_cosine": Metric(
        _cross_fitted,
        lambda sums: _ratio(sums, "gap_cosine", "gap"),
        "defined",
        CORRELATION,
        at_half_visits=_halves("gap_cosine", "gap_own"),
    ),
    "fraction_positive": Metric(
        lambda sums: _ratio(sums, "positive", "defined"),
        lambda sums: _ratio(sums, "positive", "defined"),
        "defined",
        SHARE,
        at_half_visits=_halves("positive", "defined"),
    ),
    "mean_advantage": Metric(
        lambda sums: _ratio(sums, "advantage", "nodes"), lambda sums: _ratio(sums, "advantage", "nodes"), "nodes"
    ),
    "mean_signal": Metric(
        lambda sums: _ratio(sums, "signal", "nodes"), lambda sums: _ratio(sums, "signal", "nodes"), "nodes"
    ),
    "pooled_cosine": Metric(
        _corrected_pooled,
        _plain_pooled,
        "nodes",
        CORRELATION,
        is_ratio=True,
    ),
}
