"""Specs and random distributions that the objective tests share."""

from typing import NamedTuple

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from hydrometer.objectives.grammar import FORMS, SUPPORTS, WEIGHTS
from hydrometer.objectives.topk import TopK

PROPERTY = settings(max_examples=30, deadline=None, database=None, derandomize=True)
FULL_VOCABULARY = (
    "reverse_kl",
    "forward_kl",
    "jsd:beta=0",
    "jsd:beta=0.2",
    "jsd:beta=0.5",
    "jsd:beta=0.97",
    "jsd:beta=1",
)
ESTIMATORS = ("sampled_token", "k1_loss", "k2", "k3")


def cells(*ks: int) -> list[str]:
    """Every accepted cell of the top-k table for these k."""
    specs = []
    for k in ks:
        for form in FORMS:
            for weight in WEIGHTS if form == "stop_gradient" else (None,):
                for support in SUPPORTS:
                    if TopK(k, support, form, weight or "student_p").rejection is None:
                        tail = f",weight={weight}" if weight else ""
                        specs.append(f"topk_reverse_kl:k={k},support={support},form={form}{tail}")
    return specs


EXACT = (*FULL_VOCABULARY, *cells(1, 2, 4))
"""Objectives that do not sample and need nothing but the two distributions."""


class Pair(NamedTuple):
    """Student and teacher logits, float64 `[rollout, position, vocab]`."""

    student: Tensor
    teacher: Tensor


def random_pair(
    seed: int,
    *,
    vocab: int = 6,
    shape: tuple[int, ...] = (2, 3),
    scale: float = 1.5,
    masked: int = 0,
    rounded: bool = False,
) -> Pair:
    """Gaussian logits. `masked` tokens of each position get p = 0; `rounded` to whole numbers makes many ties."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(*shape, vocab, generator=generator, dtype=torch.float64) * scale for _ in range(2))
    if rounded:
        student, teacher = student.round(), teacher.round()
    if masked:
        order = torch.rand(*shape, vocab, generator=generator).argsort(-1)
        student = student.scatter(-1, order[..., :masked], -torch.inf)
    return Pair(student, teacher)


@st.composite
def pairs(draw: st.DrawFn, *, shape: tuple[int, ...] = (2, 3), least_vocab: int = 2) -> Pair:
    """Random pairs over small vocabularies, peaked and flat, with and without ties and unreachable tokens."""
    vocab = draw(st.integers(least_vocab, 8))
    return random_pair(
        draw(st.integers(0, 10**6)),
        vocab=vocab,
        shape=shape,
        scale=draw(st.sampled_from([0.1, 1.0, 4.0, 12.0])),
        masked=draw(st.integers(0, vocab - 1)),
        rounded=draw(st.booleans()),
    )


def centred(field: Tensor, student_logprobs: Tensor) -> Tensor:
    """The contract of a field: d_j = p_j (f_j - sum_k p_k f_k)."""
    probs = student_logprobs.exp()
    return probs * (field - (probs * field).sum(-1, keepdim=True))
