"""How likely a candidate is to matter, given what has been counted: what `map` spends its rollouts on.

A candidate matters where the ideal direction moves it by at least `THRESHOLD`:

    |g_j| = M w_j |S_j - sum_k w_k S_k| >= THRESHOLD      (w: student probability over the node's candidates, M its sum)

It can't where M w_j (1 - w_j) is below that, whatever the success rates. Elsewhere delta_j = S_j - sum_k w_k S_k is 0
for seven candidates in ten and N(0, 0.2^2) for the others before anything is counted; counts have a normal error:

    P(|g_j| >= THRESHOLD | counts) = P(not 0 | counts) P(M w_j |delta_j| >= THRESHOLD | counts, not 0)

The numbers decide where rollouts go, never what is reported: rates stay successes / visits.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit, ndtr

THRESHOLD = 0.02
"""Move of a candidate's logit, in success per unit of logit, below which a token is not worth advice."""
SHARE = 0.3
"""Prior share of nodes whose candidates differ."""
SPREAD = 0.2
"""Prior standard deviation of a difference in success rates there."""
_LEAST_VARIANCE = 0.02
"""Of one outcome: a few equal ones do not prove that all are."""


class Worth(NamedTuple):
    """Per (node, token) pair."""

    probability: Float64[np.ndarray, " pair"]
    """That the pair matters."""
    variance: Float64[np.ndarray, " pair"]
    """Of one outcome, from the counts pulled towards the node's."""


def can_matter(
    node: Int64[np.ndarray, " pair"], student_prob: Float64[np.ndarray, " pair"]
) -> Bool[np.ndarray, " pair"]:
    """Whether the pair would matter if it alone decided success."""
    _, mass, weights = _weights(node, student_prob)
    return mass * weights * (1.0 - weights) >= THRESHOLD


def estimate_worth(
    node: Int64[np.ndarray, " pair"],
    student_prob: Float64[np.ndarray, " pair"],
    visits: Int64[np.ndarray, " pair"],
    successes: Int64[np.ndarray, " pair"],
) -> Worth:
    """Posterior of every pair; `node` groups the pairs whose success rates are compared."""
    place, mass, weights = _weights(node, student_prob)

    def at_node(values: Float64[np.ndarray, " pair"]) -> Float64[np.ndarray, " pair"]:
        return np.bincount(place, values)[place] if len(place) else values

    pooled = (at_node(successes * 1.0) + 1.0) / (at_node(visits * 1.0) + 2.0)
    rate = (successes + pooled) / (visits + 1.0)
    one = np.maximum(rate * (1.0 - rate), _LEAST_VARIANCE)
    noise = weights**2 * one / (visits + 1.0)
    delta = rate - at_node(weights * rate)
    error = (1.0 - 2.0 * weights) * one / (visits + 1.0) + at_node(noise)
    evidence = 0.5 * np.log(error / (error + SPREAD**2)) + 0.5 * delta**2 * (1.0 / error - 1.0 / (error + SPREAD**2))
    differs = expit(evidence + np.log(SHARE / (1.0 - SHARE)))
    kept = SPREAD**2 / (error + SPREAD**2)
    least = THRESHOLD / np.maximum(mass * weights, 1e-9)
    spread = np.sqrt(error * kept)
    beyond = ndtr((kept * delta - least) / spread) + ndtr((-kept * delta - least) / spread)
    return Worth(differs * beyond, one)


def _weights(
    node: Int64[np.ndarray, " pair"], student_prob: Float64[np.ndarray, " pair"]
) -> tuple[Int64[np.ndarray, " pair"], Float64[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """Index of each pair's node, its candidate mass, and the pair's share of that."""
    place = np.unique(node, return_inverse=True)[1].astype(np.int64)
    mass = np.bincount(place, student_prob)[place] if len(place) else student_prob
    return place, mass, student_prob / mass
