"""Which nodes of a long response are analysed, when not all of them can be paid for.

Branching nodes (two candidates that the student can sample) are chosen by systematic sampling: every n-th of them from
a random start, so that the choice reaches from the first to the last and never looks at an outcome. Each chosen node
stands for the same number of branching nodes, its `node_weight`, which makes weighted sums unbiased for all of them.

Where only the length of the ideal direction is wanted (`choose_for_length`), the nodes of all paths of a question are
drawn together, in proportion to what they can add to it,

    size = M^2 sum_k w_k^2 (1 - 2 w_k + sum_j w_j^2) / sqrt(candidates x remaining tokens)

which is E|g|^2 for unrelated success rates over the square root of the cost; decided nodes are hardly ever drawn.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from hydrometer.alignment.arrays import step_squares
from hydrometer.success.subsampling import draw_node_weights, inclusion_probabilities
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
    sizes = np.zeros(length)
    sizes[branching] = 1.0
    weights = draw_node_weights(inclusion_probabilities(sizes, limit), rng)
    mine = weights[scores.position] > 0
    narrowed = {
        name: values[..., mine] for name, values in scores.arrays().items() if name in PathScores.CANDIDATE_FIELDS
    }
    return replace(scores, **narrowed), weights


def choose_for_length(
    paths: Sequence[PathScores], count: int, rng: np.random.Generator
) -> list[Float64[np.ndarray, " position"]]:
    """Weights of the positions of each path of a question, all 0 but at `count` nodes at most."""
    sizes = [_sizes(scores) for scores in paths]
    weights = draw_node_weights(inclusion_probabilities(np.concatenate(sizes), count), rng)
    return np.split(weights, np.cumsum([len(own) for own in sizes])[:-1])


def _sizes(scores: PathScores) -> Float64[np.ndarray, " position"]:
    length = len(scores.entropy)
    sizes = np.zeros(length)
    probabilities = np.nan_to_num(np.exp(scores.student_logprob), nan=0.0)
    for position in _branching(scores).tolist():
        here = probabilities[scores.position == position]
        mass = here.sum()
        weights = here / mass
        reach = mass**2 * (weights**2 * step_squares(weights)).sum()
        sizes[position] = reach / np.sqrt((here > 0.0).sum() * (length - position))
    return sizes


def _branching(scores: PathScores) -> np.ndarray:
    """Positions with at least two candidates of student probability > 0, ascending."""
    counts = np.bincount(scores.position[np.isfinite(scores.student_logprob)], minlength=len(scores.entropy))
    return np.flatnonzero(counts >= 2)
