"""What the best student that cannot see the context would still lose: the aggregation gap -log Z.

At a prefix let q_I be the teacher's next-token distribution under context I, which comes with probability w_I. Over all
distributions p that do not depend on I,

    min_p sum_I w_I KL(p || q_I) = -log Z,   Z = sum_v exp(sum_I w_I log q_I(v)),   at p* = exp(sum_I w_I log q_I) / Z

(arXiv:2605.11182 eqs 10-11 give p*, the normalised geometric mean; that its normaliser is the minimum follows.) -log Z
is 0 where all q_I agree and grows with their disagreement; for any p the loss splits into what training can still
remove and what it cannot:

    sum_I w_I KL(p || q_I) = KL(p || p*) + (-log Z)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Gaps(NamedTuple):
    """At each position, nats."""

    disagreement: Float[Tensor, " position"]
    """-log Z: the least mean KL that a student without the context can have."""
    student_kl: Float[Tensor, " position"]
    """sum_I w_I KL(p || q_I) of this student."""


def compute_gaps(
    student_logprobs: Float[Tensor, "position vocab"],
    teacher_logprobs: Float[Tensor, "context position vocab"],
    weights: Float[Tensor, " context"],
) -> Gaps:
    """Split the loss of a design of privileged information.

    Args:
        student_logprobs: of p, float64; -inf is allowed.
        teacher_logprobs: of each q_I, finite.
        weights: of each context, above 0, summing to 1.
    """
    mixed = torch.einsum("c,cpv->pv", weights, teacher_logprobs)
    ratio = (student_logprobs - mixed).masked_fill(student_logprobs.isneginf(), 0.0)
    disagreement = (-mixed.logsumexp(-1)).clamp(min=0.0)
    return Gaps(disagreement, (student_logprobs.exp() * ratio).sum(-1).clamp(min=0.0))
