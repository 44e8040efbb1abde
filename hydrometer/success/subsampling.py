"""A few nodes out of many, likelier where they weigh more, and the weights that make their sums unbiased for all.

    pi_t = min(1, c size_t) with sum_t pi_t = count,   weight_t = 1 / pi_t (Horvitz-Thompson),   E sum w_t x_t = sum x_t

Systematic sampling: one random start u, and a node is taken where the running sum of pi passes u, u + 1, ... Neighbours
rarely come together, so that the choice reaches from the first node to the last, and it never looks at an outcome.
"""

import numpy as np
from jaxtyping import Float64


def inclusion_probabilities(sizes: Float64[np.ndarray, " node"], count: int) -> Float64[np.ndarray, " node"]:
    """Chance of each node to be among `count`, in proportion to its size where that stays below 1; size 0 never is."""
    probabilities = (sizes > 0.0).astype(np.float64)
    if count >= probabilities.sum():
        return probabilities
    is_certain = np.zeros(len(sizes), dtype=bool)
    while True:
        share = (count - is_certain.sum()) / sizes[~is_certain].sum()
        probabilities = np.where(is_certain, 1.0, sizes * share)
        if not (probabilities > 1.0 + 1e-12).any():
            return np.minimum(probabilities, 1.0)
        is_certain |= probabilities >= 1.0


def draw_node_weights(
    probabilities: Float64[np.ndarray, " node"], rng: np.random.Generator
) -> Float64[np.ndarray, " node"]:
    """1 / pi at the nodes that are taken, 0 at all others."""
    passed = np.floor(np.cumsum(probabilities) - rng.random() + 1e-9)
    is_taken = np.diff(passed, prepend=-1.0) > 0.0
    return np.divide(1.0, probabilities, out=np.zeros_like(probabilities), where=is_taken & (probabilities > 0.0))
