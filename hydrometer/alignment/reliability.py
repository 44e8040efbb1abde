"""How far sampling noise reaches into the node-level statistics: split-half reliability.

    reliability = weighted correlation over nodes between the statistic of one half of the rollouts and of the other

At two kept candidates a cosine is a sign, and noise turns signs over: mean and weighted cosine and fraction positive
are pulled towards their value for a coin (0, 0.5, 0). The reliability, at half the visits, says how much of a node's
value would come back with fresh rollouts: 1 all of it, 0 nothing. It is not stepped up to the full number of visits.
"""

import numpy as np
from jaxtyping import Float

from hydrometer.alignment.contributions import SPLITS, HalfScores, NodeLabels

NodeStatistic = Float[np.ndarray, "teacher objective node"]


def split_half_reliability(
    labels: NodeLabels, half_a: HalfScores, half_b: HalfScores
) -> dict[str, Float[np.ndarray, "split teacher objective"]]:
    """Reliability of each attenuated metric; NaN where fewer than two nodes or no variation leave it undefined."""
    both = np.isfinite(half_a.cosine) & np.isfinite(half_b.cosine)
    pairs = {
        "mean_cosine": (half_a.cosine, half_b.cosine),
        "fraction_positive": (half_a.cosine > 0.0, half_b.cosine > 0.0),
        "weighted_cosine": (half_a.gap * half_a.cosine, half_b.gap * half_b.cosine),
    }
    members = np.stack([np.ones_like(labels.path_correct), labels.path_correct, ~labels.path_correct])
    weights = labels.weight * members[:, None, None, :] * both
    assert len(members) == len(SPLITS)
    return {name: _correlation(first, second, both, weights) for name, (first, second) in pairs.items()}


def _correlation(
    first: np.ndarray, second: np.ndarray, both: np.ndarray, weights: Float[np.ndarray, "split teacher objective node"]
) -> Float[np.ndarray, "split teacher objective"]:
    a = np.where(both, first, 0.0).astype(np.float64)
    b = np.where(both, second, 0.0).astype(np.float64)

    def average(values: np.ndarray) -> np.ndarray:
        total = weights.sum(-1)
        summed = np.einsum("ston,ton->sto", weights, values)
        return np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0.0)

    mean_a, mean_b = average(a), average(b)
    spread = (average(a * a) - mean_a**2) * (average(b * b) - mean_b**2)
    covariance = average(a * b) - mean_a * mean_b
    is_defined = spread > 1e-18
    return np.divide(
        covariance, np.sqrt(np.where(is_defined, spread, 1.0)), out=np.full_like(spread, np.nan), where=is_defined
    )
