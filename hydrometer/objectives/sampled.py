"""Losses that see one sampled token per position: estimators of a KL, and policy gradients with an advantage.

With r = log p(y) - log q(y) at the sampled token y, expectations over y ~ p of the gradient:

    sampled_token    r as a constant times grad log p(y)     = grad KL(p||q)
    k1_loss          grad r                                  = 0: the teacher is a constant and drops out
    k2               grad r^2 / 2                            = grad KL(p||q)
    k3               grad (e^-r + r - 1)                     = grad KL(q||p) (its value estimates KL(p||q))
    minillm          -(sum over t' >= t of -r_t') grad log p(y_t)
    dr_grpo          -(reward - group mean) grad log p(y_t)

The value of a policy-gradient loss is minus its mean advantage (for `sampled_token` an unbiased estimate of KL(p||q)),
not the usual product with log p, which means nothing.

Source: arXiv:2605.10889 and arXiv:2306.08543 (MiniLLM), arXiv:2503.20783 (Dr. GRPO).
"""

from typing import Literal, assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrometer.objectives.fullvocab import clamped_exp

Estimator = Literal["sampled_token", "k1_loss", "k2", "k3"]


def estimator_losses(
    kind: Estimator, student_logprobs: Float[Tensor, " token"], teacher_logprobs: Float[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """The loss of each sampled token. k3's exponential is clamped (see `clamped_exp`), so it stays finite."""
    log_ratio = student_logprobs - teacher_logprobs
    match kind:
        case "sampled_token":
            return policy_gradient_losses(student_logprobs, -log_ratio)
        case "k1_loss":
            return log_ratio
        case "k2":
            return log_ratio.square() / 2
        case "k3":
            return clamped_exp(-log_ratio) + log_ratio - 1.0
    assert_never(kind)


def estimator_slopes(
    kind: Estimator, student_logprobs: Float[Tensor, " token"], teacher_logprobs: Float[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """Derivative of each loss in log p(y), so that its gradient in the logits is slope (1[j = y] - p_j)."""
    log_ratio = student_logprobs - teacher_logprobs
    match kind:
        case "sampled_token" | "k2":
            return log_ratio
        case "k1_loss":
            return torch.ones_like(log_ratio)
        case "k3":
            return 1.0 - clamped_exp(-log_ratio)
    assert_never(kind)


def policy_gradient_losses(
    student_logprobs: Float[Tensor, " token"], advantages: Float[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """-A grad log p(y) as gradient, -A as value; A is a constant."""
    return -advantages.detach() * (1.0 + student_logprobs - student_logprobs.detach())


def sum_rewards_to_go(rewards: Float[Tensor, " token"], rollout_ids: Int[Tensor, " token"]) -> Float[Tensor, " token"]:
    """Sum of the rewards of this and all later tokens of the rollout.

    The tokens of a rollout stand together and in order. Differences of running sums over the whole batch would lose
    digits, so these sums are float64.
    """
    count = len(rewards)
    sums = torch.zeros(count + 1, dtype=torch.float64, device=rewards.device)
    sums[:count] = rewards.double().flip(0).cumsum(0).flip(0)
    ends = torch.full((count,), count, device=rewards.device)
    places = torch.arange(1, count, device=rewards.device)
    ends[:-1] = torch.where(rollout_ids[1:] != rollout_ids[:-1], places, count)
    next_rollout = ends.flip(0).cummin(0).values.flip(0)
    return (sums[:count] - sums[next_rollout]).to(rewards.dtype)


def group_advantages(
    rewards: Float[Tensor, " rollout"], group_ids: Int[Tensor, " rollout"]
) -> Float[Tensor, " rollout"]:
    """Reward minus the mean of its group: no division by a deviation, no length normalisation (Dr. GRPO).

    A group of one has advantage 0. Group ids are any integers, in any order.
    """
    groups, index = group_ids.unique(return_inverse=True)
    totals = torch.zeros(len(groups), dtype=rewards.dtype, device=rewards.device).index_add_(0, index, rewards)
    return rewards - (totals / index.bincount(minlength=len(groups)))[index]
