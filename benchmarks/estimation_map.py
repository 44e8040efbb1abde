"""Which tokens matter on given paths: error of success rates against generated tokens.

A candidate matters where its true |g_j| is at least 0.02 (`hydrometer.success.worth`). Every strategy has the same
paths; its error is the root mean square of successes / visits minus the truth over the candidates that matter, those it
never visited counting as 1/2. `Windowed` may also stop short: it then leaves the pairs with the least gradient alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.estimation_problems import Array, Chains, kept_weights
from benchmarks.estimation_rollouts import Counts, start, top_up
from hydrometer.alignment.arrays import centre
from hydrometer.success.allocation import Map
from hydrometer.success.worth import THRESHOLD

ROUNDS = 40


class MapPoint(NamedTuple):
    """One setting on one set of paths."""

    tokens: float
    """Per path, without the path itself."""
    error: float
    backed_up: float
    """The error if the rate of the path's token is also taken from the node that it leads to."""


def matters(chains: Chains) -> NDArray[np.bool_]:
    """Which candidates do, in truth."""
    weights, mass = kept_weights(chains)
    ideal = centre(weights, mass, chains.rates[..., :-1] * chains.is_candidate)
    return (np.abs(ideal) >= THRESHOLD) & is_listed(chains)


def is_listed(chains: Chains) -> NDArray[np.bool_]:
    """Candidates at nodes."""
    return chains.is_candidate & chains.is_node[..., None]


def windowed_counts(chains: Chains, n_min: int, share: float, rng: np.random.Generator) -> Counts:
    """The pairs with the largest gradient, `share` of them in each depth window, to `n_min` visits."""
    weights, mass = kept_weights(chains)
    gradient = np.abs(centre(weights, mass, chains.fields)).max(0)
    listed = is_listed(chains)
    window = np.where(np.arange(chains.is_node.shape[2]) < 50, 0, 1)
    chosen = np.zeros_like(listed)
    for question, path in np.ndindex(*listed.shape[:2]):
        for current in (0, 1):
            mine = listed[question, path] & (window == current)[:, None]
            if mine.any():
                least = np.quantile(gradient[question, path][mine], 1.0 - share)
                chosen[question, path] |= mine & (gradient[question, path] >= least)
    return top_up(chains, start(chains, 2, rng), np.where(chosen, n_min, 0), rng)


def map_counts(chains: Chains, strategy: Map, rng: np.random.Generator) -> Counts:
    """The tool's own targets, round by round."""
    listed = np.nonzero(is_listed(chains))
    node = np.ravel_multi_index(listed[:3], chains.is_node.shape)
    student_prob = chains.probabilities[listed]
    counts = start(chains, 2, rng)
    for _ in range(ROUNDS):
        wanted = np.zeros(chains.is_candidate.shape, dtype=np.int64)
        wanted[listed] = strategy.targets(node, student_prob, counts.visits[listed], counts.successes[listed])
        if not (wanted > counts.visits).any():
            break
        counts = top_up(chains, counts, wanted, rng)
    return counts


def map_point(chains: Chains, counts: Counts, mattering: NDArray[np.bool_]) -> MapPoint:
    """Cost and error."""
    seen = counts.visits > 0
    rates = np.where(seen, counts.successes / np.maximum(counts.visits, 1), 0.5)
    found = (rates, back_up(chains, counts, rates))
    errors = [float(np.sqrt(((own - chains.rates[..., :-1])[mattering] ** 2).mean())) for own in found]
    return MapPoint(float(counts.tokens.mean()), *errors)


def back_up(chains: Chains, counts: Counts, rates: Array) -> Array:
    """Rates with that of the path's token averaged with the value of the next node, by inverse variance.

    The value is sum p S over the visited candidates, which takes those that are no candidates to be like them.
    """
    better = rates.copy()
    variances = np.maximum(rates * (1.0 - rates), 0.02) / np.maximum(counts.visits, 0.25)
    seen = (counts.visits > 0) & is_listed(chains)
    for position in range(rates.shape[2] - 2, -1, -1):
        p = chains.probabilities[:, :, position + 1, :-1] * seen[:, :, position + 1]
        mass = p.sum(-1)
        weights = p / np.maximum(mass, 1e-9)[..., None]
        value = (weights * better[:, :, position + 1]).sum(-1)
        noise = (weights**2 * variances[:, :, position + 1]).sum(-1) + (1.0 - mass) ** 2 * 0.05
        for question, path in np.argwhere((mass > 0.5) & (chains.token[:, :, position] < rates.shape[-1])):
            at = (question, path, position, chains.token[question, path, position])
            share = variances[at] / (variances[at] + noise[question, path])
            better[at] += share * (value[question, path] - better[at])
            variances[at] *= 1.0 - share
    return better


def tokens_at(curve: Sequence[MapPoint], error: float) -> float:
    """Tokens at which a curve has this error, interpolated on log scales; NaN outside of it."""
    ordered = sorted(curve)
    tokens, errors = np.log([p.tokens for p in ordered]), np.log([p.error for p in ordered])
    falling = np.minimum.accumulate(errors)
    if not falling[-1] <= np.log(error) <= falling[0]:
        return float("nan")
    return float(np.exp(np.interp(-np.log(error), -falling, tokens)))
