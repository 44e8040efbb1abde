"""Which nodes of a long response are analysed, when not all of them can be paid for.

Branching nodes (two candidates that the student can sample) are chosen by systematic sampling: every n-th of them from
a random start, so that the choice reaches from the first to the last and never looks at an outcome. Each chosen node
stands for the same number of branching nodes, its `node_weight`, which makes weighted sums unbiased for all of them.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from hydrometer.teachers import PathScores


def choose_nodes(
    scores: PathScores, limit: int | None, rng: np.random.Generator
) -> tuple[PathScores, Float64[np.ndarray, " position"]]:
    """The scores with candidates at the chosen nodes only, and the weight of every position (0 where not chosen).

    Args:
        scores: of one path.
        limit: how many branching nodes are kept at most; None keeps every position, all with weight 1.
        rng: decides where the systematic sample starts.
    """
    length = len(scores.entropy)
    branching = _branching(scores)
    if limit is None or len(branching) <= limit:
        return scores, np.ones(length)
    step = len(branching) / limit
    chosen = branching[np.floor((np.arange(limit) + rng.random()) * step).astype(np.int64)]
    weights = np.zeros(length)
    weights[chosen] = step
    mine = weights[scores.position] > 0
    narrowed = {
        name: values[..., mine] for name, values in scores.arrays().items() if name in PathScores.CANDIDATE_FIELDS
    }
    return replace(scores, **narrowed), weights


def _branching(scores: PathScores) -> np.ndarray:
    """Positions with at least two candidates of student probability > 0, ascending."""
    counts = np.bincount(scores.position[np.isfinite(scores.student_logprob)], minlength=len(scores.entropy))
    return np.flatnonzero(counts >= 2)
