"""What student and teacher say at each response token, reduced to a few numbers.

With p the student's and q the teacher's next-token distribution, S_p and S_q their k most probable tokens,
I = S_p ∩ S_q, and p~, q~ renormalised on I:

    overlap ratio            |I| / k                                     arXiv:2604.13016 eq 6
    overlap-token advantage  mean over I of p~ (log q~ - log p~)         eq 7;  = -KL(p~||q~) / |I| <= 0
    the same as verl has it  mean over I of -q (log q - log p)           not renormalised, of either sign
    overlap mass             sum over I of p, and of q                   eqs 9 and 10
    entropy                  over the full vocabulary                    eq 8 is made of it
    teacher rank@K           place of the sampled token in S_q, K + 1 beyond it     arXiv:2605.11182

Departures: where I is empty both advantages are NaN (not defined), which verl counts as 0, and the masses are 0, which
the code of arXiv:2604.13016 leaves out. A token with probability 0 is in neither set. Ties at the last place of a set
are broken as torch.topk does.
Nothing here waits for the accelerator, and no array over the vocabulary outlives the call.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

RANK_K = 50
"""Depth to which the teacher's rank is told (arXiv:2605.11182)."""
_BLOCK_ELEMENTS = 1 << 18
"""Vocabulary x tokens handled at a time on the CPU: 1 MiB per float32 array, which fits a cache."""
_BLOCK_ELEMENTS_ON_GPU = 1 << 24
_FLOOR = -1e5
"""Stands in for log 0, so that 0 log 0 is 0 in plain arithmetic. No float32 log-softmax comes near it."""


class StudentStats(NamedTuple):
    """What is known of each token without a teacher. Natural logs."""

    student_logprob: Float[Tensor, " token"]
    """Of the sampled token. NaN where p = 0 (rounding at the edge of a nucleus can do that)."""
    student_entropy: Float[Tensor, " token"]
    """Full vocabulary, nats."""
    student_topk_mass: Float[Tensor, " token"]
    """Student probability of its own k most probable tokens."""


class TokenStats(NamedTuple):
    """What is known of each token. Natural logs; NaN where a quantity does not exist, inf where it is infinite."""

    student_logprob: Float[Tensor, " token"]
    """As in `StudentStats`, like the next two."""
    student_entropy: Float[Tensor, " token"]
    student_topk_mass: Float[Tensor, " token"]
    teacher_logprob: Float[Tensor, " token"]
    """Of the sampled token; -inf where the teacher excludes it."""
    teacher_entropy: Float[Tensor, " token"]
    """Full vocabulary, nats."""
    teacher_topk_mass: Float[Tensor, " token"]
    """Teacher probability of its own k most probable tokens."""
    teacher_rank: Int[Tensor, " token"]
    """Of the sampled token among the teacher's most probable: 1 is the first, `rank_k` + 1 is beyond the last."""
    reverse_kl: Float[Tensor, " token"]
    """KL(student || teacher), full vocabulary, nats."""
    forward_kl: Float[Tensor, " token"]
    """KL(teacher || student), full vocabulary, nats. inf where only the student excludes a token."""
    overlap_ratio: Float[Tensor, " token"]
    """|I| / k."""
    student_overlap_mass: Float[Tensor, " token"]
    """Student probability of I."""
    teacher_overlap_mass: Float[Tensor, " token"]
    """Teacher probability of I."""
    overlap_token_advantage: Float[Tensor, " token"]
    """arXiv:2604.13016 eq 7, nats; NaN where I is empty."""
    overlap_token_advantage_verl: Float[Tensor, " token"]
    """What verl logs under the name of the one above, nats; NaN where I is empty."""


Stats = TypeVar("Stats", StudentStats, TokenStats)


def compute_student_stats(
    student_logprobs: Float[Tensor, "token vocab"], tokens: Int[Tensor, " token"], *, k: int
) -> StudentStats:
    """The part that needs no teacher (training on outcomes or on demonstrations).

    Args:
        student_logprobs: natural log-probabilities on the full vocabulary; -inf is allowed.
        tokens: the sampled ids.
        k: size of the top-k set (capped at the vocabulary).
    """
    _check_k(k)
    entropies = [_entropy(_floored(block)) for block in _blocks(student_logprobs)]
    top = student_logprobs.topk(min(k, student_logprobs.shape[-1])).values
    return StudentStats(_sampled_by_student(student_logprobs, tokens), torch.cat(entropies), top.exp().sum(-1))


def compute_token_stats(
    student_logprobs: Float[Tensor, "token vocab"],
    teacher_logprobs: Float[Tensor, "token vocab"],
    tokens: Int[Tensor, " token"],
    *,
    k: int,
    rank_k: int = RANK_K,
) -> TokenStats:
    """All statistics of a chunk of response tokens, on the device of the inputs.

    Args:
        student_logprobs: natural log-probabilities on the full vocabulary, float32 or better; -inf is allowed.
        teacher_logprobs: the same of the teacher at the same positions.
        tokens: the sampled ids.
        k: size of the two top-k sets (capped at the vocabulary).
        rank_k: depth to which the teacher's rank is told.
    """
    _check_k(min(k, rank_k))
    vocab = student_logprobs.shape[-1]
    k = min(k, vocab)
    dense = _Divergences(*map(torch.cat, zip(*_divergence_blocks(student_logprobs, teacher_logprobs), strict=True)))
    student_top = student_logprobs.topk(k)
    teacher_top = teacher_logprobs.topk(min(max(k, rank_k), vocab))
    overlap = compute_overlap(student_logprobs, teacher_logprobs, student_top.indices, teacher_top.indices[:, :k])
    return TokenStats(
        student_logprob=_sampled_by_student(student_logprobs, tokens),
        student_entropy=dense.student_entropy,
        student_topk_mass=student_top.values.exp().sum(-1),
        teacher_logprob=teacher_logprobs.gather(-1, tokens[:, None]).squeeze(-1),
        teacher_entropy=dense.teacher_entropy,
        teacher_topk_mass=teacher_top.values[:, :k].exp().sum(-1),
        teacher_rank=_rank(teacher_top.indices[:, :rank_k], tokens, rank_k),
        reverse_kl=dense.reverse_kl,
        forward_kl=dense.forward_kl,
        overlap_ratio=overlap.ratio,
        student_overlap_mass=overlap.student_mass,
        teacher_overlap_mass=overlap.teacher_mass,
        overlap_token_advantage=overlap.advantage,
        overlap_token_advantage_verl=overlap.advantage_verl,
    )


def join_stats(parts: Sequence[Stats]) -> Stats:
    """The statistics of chunks that follow one another, as one.

    Raises:
        ValueError: there is no chunk.
    """
    if not parts:
        raise ValueError("expected at least one chunk of statistics, got none")
    return type(parts[0])(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"expected k >= 1, got {k}")


def _sampled_by_student(
    logprobs: Float[Tensor, "token vocab"], tokens: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    sampled = logprobs.gather(-1, tokens[:, None]).squeeze(-1)
    return sampled.masked_fill(sampled.isneginf(), torch.nan)


def _rank(teacher_ids: Int[Tensor, "token place"], tokens: Int[Tensor, " token"], rank_k: int) -> Int[Tensor, " token"]:
    places = torch.arange(1, teacher_ids.shape[-1] + 1, device=tokens.device)
    return torch.where(teacher_ids == tokens[:, None], places, rank_k + 1).amin(-1)


class _Divergences(NamedTuple):
    student_entropy: Tensor
    teacher_entropy: Tensor
    reverse_kl: Tensor
    forward_kl: Tensor


def _blocks(logprobs: Float[Tensor, "token vocab"]) -> tuple[Float[Tensor, "block vocab"], ...]:
    limit = _BLOCK_ELEMENTS if logprobs.device.type == "cpu" else _BLOCK_ELEMENTS_ON_GPU
    return logprobs.split(max(1, limit // logprobs.shape[-1]))


def _divergence_blocks(
    student_logprobs: Float[Tensor, "token vocab"], teacher_logprobs: Float[Tensor, "token vocab"]
) -> list[_Divergences]:
    pairs = zip(_blocks(student_logprobs), _blocks(teacher_logprobs), strict=True)
    return [_divergences(_floored(student), _floored(teacher)) for student, teacher in pairs]


def _divergences(
    student_logprobs: Float[Tensor, "block vocab"], teacher_logprobs: Float[Tensor, "block vocab"]
) -> _Divergences:
    """Entropies and both KL divergences of log-probabilities that are at least `_FLOOR`."""
    log_ratio = student_logprobs - teacher_logprobs
    student_probs, teacher_probs = student_logprobs.exp(), teacher_logprobs.exp()
    reverse_kl = (student_probs * log_ratio).sum(-1).clamp(min=0.0)
    forward_kl = -(teacher_probs * log_ratio).sum(-1).clamp(max=0.0)
    # A ratio this far out has the floor on one side only: one distribution excludes what the other allows.
    return _Divergences(
        -(student_probs * student_logprobs).sum(-1),
        -(teacher_probs * teacher_logprobs).sum(-1),
        reverse_kl.masked_fill(log_ratio.amax(-1) > -_FLOOR / 2, torch.inf),
        forward_kl.masked_fill(log_ratio.amin(-1) < _FLOOR / 2, torch.inf),
    )


def _floored(logprobs: Float[Tensor, "block vocab"]) -> Float[Tensor, "block vocab"]:
    return logprobs.clamp(min=_FLOOR)


def _entropy(logprobs: Float[Tensor, "block vocab"]) -> Float[Tensor, " block"]:
    return -(logprobs.exp() * logprobs).sum(-1)


class Overlap(NamedTuple):
    """What the most probable tokens of both have in common, as in `TokenStats`."""

    ratio: Float[Tensor, " token"]
    student_mass: Float[Tensor, " token"]
    teacher_mass: Float[Tensor, " token"]
    advantage: Float[Tensor, " token"]
    advantage_verl: Float[Tensor, " token"]


def compute_overlap(
    student_logprobs: Float[Tensor, "token vocab"],
    teacher_logprobs: Float[Tensor, "token vocab"],
    student_ids: Int[Tensor, "token k"],
    teacher_ids: Int[Tensor, "token k"],
) -> Overlap:
    """Everything that is read off the intersection, held in the k slots of the student's set.

    Args:
        student_logprobs: natural log-probabilities on the full vocabulary; -inf is allowed.
        teacher_logprobs: the same of the teacher at the same positions.
        student_ids: the student's k most probable tokens.
        teacher_ids: the teacher's.
    """
    student, teacher = student_logprobs.gather(-1, student_ids), teacher_logprobs.gather(-1, student_ids)
    in_both = _are_members(student_ids, teacher_ids, student_logprobs.shape[-1])
    outside = ~(in_both & (student > -torch.inf) & (teacher > -torch.inf))
    count = (~outside).sum(-1).to(student.dtype)
    student_probs = student.exp().masked_fill(outside, 0.0)
    teacher_probs = teacher.exp().masked_fill(outside, 0.0)
    log_ratio = (student - teacher).masked_fill(outside, 0.0)
    # Renormalised in logs: the shared tokens may all be too improbable for float32. NaN where I is empty.
    student_tilde = student.masked_fill(outside, -torch.inf).log_softmax(-1)
    teacher_tilde = teacher.masked_fill(outside, -torch.inf).log_softmax(-1)
    kl_terms = student_tilde.exp() * (student_tilde - teacher_tilde).masked_fill(outside, 0.0)
    return Overlap(
        count / student_ids.shape[-1],
        student_probs.sum(-1),
        teacher_probs.sum(-1),
        -kl_terms.sum(-1).clamp(min=0.0) / count,
        (teacher_probs * log_ratio).sum(-1) / count,
    )


def _are_members(ids: Int[Tensor, "token k"], members: Int[Tensor, "token k"], vocab: int) -> Bool[Tensor, "token k"]:
    is_member = torch.zeros(*members.shape[:-1], vocab, dtype=torch.bool, device=members.device)
    return is_member.scatter_(-1, members, True).gather(-1, ids)
