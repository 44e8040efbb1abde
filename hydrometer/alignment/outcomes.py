"""Inner products with the ideal direction from the outcomes of the analysed paths alone: no branch is sampled.

At a node the token j that the path took was drawn from p, and the path was right (R = 1) or wrong. For any baseline v
that does not depend on j or R,

    E[(d_j - sum_k w_k d_k) (R - v)] = sum_j M w_j (d_j - sum_k w_k d_k) S_j = g.d         (0 where j is not a candidate)

so every token of every scored path is an unbiased sample of g.d at its node, at no cost beyond the path itself: the
policy gradient read backwards. `v` is the mean outcome of the question's other on-policy rollouts, shrunk to 1/2.

What it can't do. It holds on average over right and wrong paths together: within the correct (or the incorrect) ones R
does not vary, so it says nothing about those splits. It gives sums over nodes; one node's value is noise. And |g|^2 is
quadratic in S: it still needs branches.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

PRIOR_ROLLOUTS = 1.0
"""How many rollouts, half of them right, the baseline is shrunk by."""


def taken_scores(
    weights: Float[np.ndarray, "*batch candidate"],
    directions: Float[np.ndarray, "*arms candidate"],
    taken: Int[np.ndarray, "*batch"],
) -> Float[np.ndarray, "*nodes"]:
    """d_j - sum_k w_k d_k of the token that the path took: what R - v is multiplied by.

    Args:
        weights: student probability renormalised over the candidates.
        directions: of every arm, on the same candidates; leading axes are arms.
        taken: place of the path's token among the candidates; negative where it is none of them.
    """
    place = np.broadcast_to(np.maximum(taken, 0), directions.shape[:-1])[..., None]
    own = np.take_along_axis(directions, place, axis=-1)[..., 0]
    return np.where(taken >= 0, own - (weights * directions).sum(-1), 0.0)


def leave_one_out_baseline(
    correct: Bool[np.ndarray, "*group rollout"],
    others: Int[np.ndarray, "*group"],
    others_correct: Int[np.ndarray, "*group"],
) -> Float[np.ndarray, "*group rollout"]:
    """Mean outcome of a question's on-policy rollouts without the one at hand, shrunk to 1/2.

    Args:
        correct: outcomes of the paths of a question.
        others: how many further on-policy rollouts it has.
        others_correct: how many of those are right.
    """
    known = correct.sum(-1) + others_correct
    count = correct.shape[-1] - 1 + others
    return (known[..., None] - correct + PRIOR_ROLLOUTS / 2) / (count[..., None] + PRIOR_ROLLOUTS)
