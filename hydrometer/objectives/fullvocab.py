"""Divergences over the whole vocabulary: the ascent field, its stable product with p, and the loss of each token.

With student distribution p, teacher distribution q and the ascent field f, the direction in the student's logits is

    d_j = p_j f_j - p_j sum_k p_k f_k

    reverse KL  KL(p||q)                         f = log q - log p
    forward KL  KL(q||p)                         f = q / p                      (so p f = q, and d = q - p)
    JSD         b KL(q||m) + (1-b) KL(p||m)      f = (1-b) (log m - log p),     m = (1-b) p + b q

JSD's beta is TRL's (0 forward KL, 1 reverse KL, both taken as special cases: the JSD itself vanishes at its ends).
A token that the student cannot produce (p = 0, log-probability -inf after top-p) is left out of every sum: its field,
its direction and its gradient are exactly 0, and the teacher's log-probability there may be anything. Everywhere else
both log-probabilities have to be finite.

Source: arXiv:2605.10889 for the common form; arXiv:2306.13649 for the JSD between the two KLs.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def clamped_exp(exponent: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """exp, held below the largest finite value with room for a factor of e^8.

    Only ratios w / p overflow; where they do, p is under e^-80 (float32) or e^-701 (float64).
    """
    return exponent.clamp(max=math.log(torch.finfo(exponent.dtype).max) - 8.0).exp()


def unreachable(student_logprobs: Float[Tensor, "*batch vocab"]) -> Bool[Tensor, "*batch vocab"]:
    """True at the tokens the student cannot produce."""
    return student_logprobs.isneginf()


def reverse_kl_field(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """The field log q - log p."""
    return (teacher_logprobs - student_logprobs).masked_fill_(unreachable(student_logprobs), 0.0)


def reverse_kl_scaled_field(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """Its product with p."""
    return reverse_kl_field(student_logprobs, teacher_logprobs).mul_(student_logprobs.exp())


def reverse_kl_losses(
    student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
) -> Float[Tensor, " token"]:
    """KL(p||q) of each token, in nats."""
    log_ratio = (student_logprobs - teacher_logprobs).masked_fill(unreachable(student_logprobs), 0.0)
    return (student_logprobs.exp() * log_ratio).sum(-1)


def forward_kl_field(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """The field q / p, clamped where p underflows (see `clamped_exp`)."""
    return clamped_exp(reverse_kl_field(student_logprobs, teacher_logprobs)).masked_fill_(
        unreachable(student_logprobs), 0.0
    )


def forward_kl_scaled_field(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """Its product with p: q, and 0 where the student cannot go."""
    return teacher_logprobs.exp().masked_fill_(unreachable(student_logprobs), 0.0)


def forward_kl_losses(
    student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
) -> Float[Tensor, " token"]:
    """KL(q||p) of each token, in nats (over the tokens the student can produce)."""
    hidden = unreachable(student_logprobs)
    log_ratio = (teacher_logprobs - student_logprobs).masked_fill(hidden, 0.0)
    return (teacher_logprobs.exp().masked_fill(hidden, 0.0) * log_ratio).sum(-1)


def jsd_field(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"], beta: float
) -> Float[Tensor, "*batch vocab"]:
    """The field (1-b) (log m - log p), for 0 < beta < 1."""
    field = _mixture_logprobs(student_logprobs, teacher_logprobs, beta).sub_(student_logprobs)
    return field.mul_(1.0 - beta).masked_fill_(unreachable(student_logprobs), 0.0)


def jsd_losses(
    student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"], beta: float
) -> Float[Tensor, " token"]:
    """JSD b KL(q||m) + (1-b) KL(p||m) of each token, in nats, for 0 < beta < 1."""
    hidden = unreachable(student_logprobs)
    # logaddexp(-inf, -inf) has no gradient, so a token that neither model can produce gets a stand-in of weight 0.
    absent = hidden & teacher_logprobs.isneginf()
    teacher_probs = teacher_logprobs.exp()
    teacher_logprobs = teacher_logprobs.masked_fill(absent, 0.0)
    mixture = _mixture_logprobs(student_logprobs, teacher_logprobs, beta)
    teacher_gap = teacher_logprobs - mixture
    student_gap = (student_logprobs - mixture).masked_fill(hidden, 0.0)
    return (beta * teacher_probs * teacher_gap + (1.0 - beta) * student_logprobs.exp() * student_gap).sum(-1)


def _mixture_logprobs(
    student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"], beta: float
) -> Float[Tensor, "*batch vocab"]:
    return torch.logaddexp(student_logprobs + math.log1p(-beta), teacher_logprobs + math.log(beta))
