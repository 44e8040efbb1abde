"""Reverse KL truncated to a set K of top-k tokens: every support, form and weight.

With l = log p - log q and the masses M_S, M_T of student and teacher on K, the ascent field is 0 off K and on K

    unnormalised                    f = -(l + 1)                     loss  sum_K p l
    stop_gradient, student_p        f = -l                           loss  sum_K (p l - p + q)
                   student_p_norm   f = -l / M_S                     loss  the same / sg(M_S)
                   teacher_p_norm   f = -(q / M_T) l / p             loss  sum_K (q / M_T) l^2 / 2
                   uniform          f = -(1 / |K|) l / p             loss  sum_K l^2 / (2 |K|)
    renormalised                    f = (KL(p~||q~) - l~) / M_S      loss  KL(p~||q~),  p~ = p / M_S, q~ = q / M_T
    tail_bin                        f = log((1-M_S)/(1-M_T)) - l     loss  sum_K p l + (1-M_S) log((1-M_S)/(1-M_T))

(`tail_bin` shifted by a constant so that it, too, is 0 off K; only f minus its mean under p matters.)
Membership of K is a constant: no gradient goes through it. Ties are broken towards the lower token id, k is capped at
the vocabulary, and a token with p = 0 belongs to no support. An empty K gives direction and loss 0.

Departures: `stop_gradient` is the method of arXiv:2605.11182 (student_p) and of the code of arXiv:2604.13016 (the other
weights), but its value here is a Bregman divergence or a weighted square with the very same gradient, which is >= 0 and
0 at p = q on K, so that a loss curve can be read.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hydrometer.objectives.fullvocab import clamped_exp, unreachable

Support = Literal["student", "teacher", "union", "intersection", "symmetric_difference"]
Form = Literal["unnormalised", "stop_gradient", "renormalised", "tail_bin"]
Weight = Literal["student_p", "student_p_norm", "teacher_p_norm", "uniform"]


@dataclass(frozen=True, slots=True)
class TopK:
    """One cell of the table. `weight` has a meaning under `stop_gradient` only."""

    k: int = 16
    support: Support = "student"
    form: Form = "stop_gradient"
    weight: Weight = "student_p"

    @property
    def rejection(self) -> str | None:
        """Why this cell is not offered, or None."""
        if self.form == "renormalised" and self.k == 1 and self.support in ("student", "teacher", "intersection"):
            return "renormalised on at most one token, p~ = q~ = 1: loss and gradient are always 0"
        return None

    @property
    def zero_at_equality(self) -> bool:
        """Whether p = q gives no direction (`unnormalised` has one, unless p = q leaves its support empty)."""
        return self.form != "unnormalised" or self.support == "symmetric_difference"


class Members(NamedTuple):
    """The support of each position: `k` or `2k` slots, of which some may be empty."""

    ids: Int[Tensor, "*batch slot"]
    filled: Bool[Tensor, "*batch slot"]
    student_logprobs: Float[Tensor, "*batch slot"]
    """0 in an empty slot, so that arithmetic there stays finite."""
    teacher_logprobs: Float[Tensor, "*batch slot"]


def topk_ids(logprobs: Float[Tensor, "*batch vocab"], k: int) -> Int[Tensor, "*batch k"]:
    """Ids of the k most probable tokens; among equals the lower id wins (between tokens with p = 0 any may).

    Selecting one more than k shows which rows have more equals than room. They are common, since logits are often
    computed in bfloat16, but only those rows are read a second time.
    """
    vocab = logprobs.shape[-1]
    flat = logprobs.detach().reshape(-1, vocab)
    k = min(k, vocab)
    values, ids = flat.topk(min(k + 1, vocab), dim=-1)
    lowest, ids = values[:, k - 1], ids[:, :k].contiguous()
    crowded = ((lowest == values[:, -1]) & (lowest > -math.inf)).nonzero().squeeze(-1)
    if k < vocab and len(crowded):
        above = (values[crowded] > lowest[crowded, None]).sum(-1)
        row, token = (flat[crowded] == lowest[crowded, None]).nonzero(as_tuple=True)
        first = torch.searchsorted(row, torch.arange(len(crowded), device=row.device))
        slot = above[row] + torch.arange(len(row), device=row.device) - first[row]
        fits = slot < k
        ids[crowded[row[fits]], slot[fits]] = token[fits]
    return ids.reshape(*logprobs.shape[:-1], k)


def find_members(
    spec: TopK, student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Members:
    """The support K with both models' log-probabilities on it (differentiable in the student's)."""
    vocab = student_logprobs.shape[-1]
    student_ids = topk_ids(student_logprobs, spec.k) if spec.support != "teacher" else None
    teacher_ids = topk_ids(teacher_logprobs, spec.k) if spec.support != "student" else None
    if student_ids is None or teacher_ids is None:
        ids = student_ids if student_ids is not None else teacher_ids
        assert ids is not None
        filled = torch.ones_like(ids, dtype=torch.bool)
    else:
        shared = _contains(teacher_ids, student_ids, vocab)
        teacher_only = ~_contains(student_ids, teacher_ids, vocab)
        match spec.support:
            case "intersection":
                ids, filled = student_ids, shared
            case "union":
                ids = torch.cat([student_ids, teacher_ids], -1)
                filled = torch.cat([torch.ones_like(shared), teacher_only], -1)
            case _:
                ids = torch.cat([student_ids, teacher_ids], -1)
                filled = torch.cat([~shared, teacher_only], -1)
    student = student_logprobs.gather(-1, ids)
    filled = filled & ~unreachable(student)
    teacher = teacher_logprobs.gather(-1, ids)
    return Members(ids, filled, student.masked_fill(~filled, 0.0), teacher.masked_fill(~filled, 0.0))


def masses(members: Members) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Probability of K under the student and under the teacher."""
    student = members.student_logprobs.exp().masked_fill(~members.filled, 0.0).sum(-1)
    return student, members.teacher_logprobs.exp().masked_fill(~members.filled, 0.0).sum(-1)


def topk_field(
    spec: TopK, student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """The field f on the vocabulary. The weights over p are clamped where p underflows (see `clamped_exp`)."""
    members = find_members(spec, student_logprobs, teacher_logprobs)
    pull, log_weight = _pulls(spec, members, student_logprobs, teacher_logprobs)
    return _spread(members, pull * clamped_exp(log_weight - members.student_logprobs), student_logprobs)


def topk_scaled_field(
    spec: TopK, student_logprobs: Float[Tensor, "*batch vocab"], teacher_logprobs: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    """The field times p on the vocabulary, without the division by p."""
    members = find_members(spec, student_logprobs, teacher_logprobs)
    pull, log_weight = _pulls(spec, members, student_logprobs, teacher_logprobs)
    return _spread(members, pull * log_weight.exp(), student_logprobs)


def topk_losses(
    spec: TopK, student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
) -> Float[Tensor, " token"]:
    """The loss of each token, in nats (>= 0 except `unnormalised`)."""
    members = find_members(spec, student_logprobs, teacher_logprobs)
    empty = ~members.filled
    log_ratio = members.student_logprobs - members.teacher_logprobs
    student_probs = members.student_logprobs.exp().masked_fill(empty, 0.0)
    match spec.form:
        case "unnormalised":
            return (student_probs * log_ratio).sum(-1)
        case "stop_gradient":
            return _stop_gradient_losses(spec.weight, members, log_ratio)
        case "renormalised":
            student = members.student_logprobs - _log_total(members.student_logprobs, empty)
            teacher = members.teacher_logprobs - _log_total(members.teacher_logprobs, empty)
            shares = student.masked_fill(empty, -math.inf).exp()
            return (shares * (student - teacher)).sum(-1)
        case "tail_bin":
            student_tail, teacher_tail = _log_tails(members, student_logprobs, teacher_logprobs)
            tail = student_tail.exp() * (student_tail - teacher_tail)
            # Without a tail both entries are 0 (their stand-in), which makes the term 0.
            return (student_probs * log_ratio).sum(-1) + tail.squeeze(-1)
    assert_never(spec.form)


def _stop_gradient_losses(
    weight: Weight, members: Members, log_ratio: Float[Tensor, "token slot"]
) -> Float[Tensor, " token"]:
    empty = ~members.filled
    match weight:
        case "student_p" | "student_p_norm":
            scale = torch.zeros_like(log_ratio[:, :1])
            if weight == "student_p_norm":
                scale = _log_total(members.student_logprobs.detach(), empty)
            student = (members.student_logprobs - scale).masked_fill(empty, -math.inf).exp()
            teacher = clamped_exp((members.teacher_logprobs - scale).masked_fill(empty, -math.inf))
            return (student * log_ratio - student + teacher).sum(-1)
        case "teacher_p_norm" | "uniform":
            weights = _log_weights(weight, members).exp().masked_fill(empty, 0.0)
            return (weights * log_ratio.square()).sum(-1) / 2
    assert_never(weight)


def _pulls(
    spec: TopK,
    members: Members,
    student_logprobs: Float[Tensor, "*batch vocab"],
    teacher_logprobs: Float[Tensor, "*batch vocab"],
) -> tuple[Float[Tensor, "*batch slot"], Float[Tensor, "*batch slot"]]:
    """Each slot's pull c and log weight w with p f = c exp(w); meaningless in an empty slot."""
    pull = members.teacher_logprobs - members.student_logprobs
    log_weight = members.student_logprobs
    match spec.form:
        case "unnormalised":
            pull = pull - 1.0
        case "stop_gradient":
            log_weight = _log_weights(spec.weight, members)
        case "renormalised":
            log_weight = _log_weights("student_p_norm", members)
            shares = log_weight.exp().masked_fill(~members.filled, 0.0)
            pull = pull - (shares * pull).sum(-1, keepdim=True)
        case "tail_bin":
            student_tail, teacher_tail = _log_tails(members, student_logprobs, teacher_logprobs)
            pull = pull - (teacher_tail - student_tail)
        case _:
            assert_never(spec.form)
    return pull, log_weight


def _log_weights(weight: Weight, members: Members) -> Float[Tensor, "*batch slot"]:
    """Log of the constant weights over K of `stop_gradient`."""
    empty = ~members.filled
    match weight:
        case "student_p":
            return members.student_logprobs.detach()
        case "student_p_norm":
            student_logprobs = members.student_logprobs.detach()
            return student_logprobs - _log_total(student_logprobs, empty)
        case "teacher_p_norm":
            return members.teacher_logprobs - _log_total(members.teacher_logprobs, empty)
        case "uniform":
            count = members.filled.sum(-1, keepdim=True).clamp(min=1)
            return -count.to(members.teacher_logprobs.dtype).log().expand_as(members.teacher_logprobs)
    assert_never(weight)


def _log_total(logprobs: Float[Tensor, "*batch slot"], empty: Bool[Tensor, "*batch slot"]) -> Float[Tensor, "*batch 1"]:
    """Log of the mass on the filled slots; finite (and unused) where all are empty."""
    nothing = empty.all(-1, keepdim=True)
    return logprobs.masked_fill(empty & ~nothing, -math.inf).logsumexp(-1, keepdim=True)


def _log_tails(
    members: Members,
    student_logprobs: Float[Tensor, "*batch vocab"],
    teacher_logprobs: Float[Tensor, "*batch vocab"],
) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch 1"]]:
    """Log of both models' mass off K, summed there: 1 - M would lose its digits as M nears 1. (0, 0) without a tail."""
    student, teacher = _off_support(members, student_logprobs), _off_support(members, teacher_logprobs)
    no_tail = student.detach().amax(-1, keepdim=True).isneginf()
    if no_tail.any():
        student, teacher = student.masked_fill(no_tail, 0.0), teacher.masked_fill(no_tail, 0.0)
    student, teacher = student.logsumexp(-1, keepdim=True), teacher.logsumexp(-1, keepdim=True)
    return student.masked_fill(no_tail, 0.0), teacher.masked_fill(no_tail, 0.0)


def _off_support(members: Members, logprobs: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities with -inf on K."""
    flat = logprobs.reshape(-1, logprobs.shape[-1])
    slots = members.ids.shape[-1]
    rows, slot = members.filled.reshape(-1, slots).nonzero(as_tuple=True)
    tokens = members.ids.reshape(-1, slots)[rows, slot]
    return flat.index_put((rows, tokens), flat.new_tensor(-math.inf)).reshape(logprobs.shape)


def _contains(members: Int[Tensor, "*batch k"], ids: Int[Tensor, "*batch k"], vocab: int) -> Bool[Tensor, "*batch k"]:
    present = torch.zeros(*members.shape[:-1], vocab, dtype=torch.bool, device=members.device)
    return present.scatter_(-1, members, True).gather(-1, ids)


def _spread(
    members: Members, values: Float[Tensor, "*batch slot"], like: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch vocab"]:
    values = values.masked_fill(~members.filled, 0.0)
    return torch.zeros_like(like, dtype=values.dtype).scatter_add_(-1, members.ids, values)
