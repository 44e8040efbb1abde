"""Several models walking one response together: logits in blocks of the same positions, whatever runs each model."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hydrometer.models.causal import CausalModel

_BLOCK_ELEMENTS = 1 << 18
"""Vocabulary x positions handled at a time on the CPU: 2 MiB per float64 array, which fits a cache."""
_BLOCK_ELEMENTS_ON_GPU = 1 << 24


def walk_logits(
    model: CausalModel, prompt_ids: Sequence[int], response_ids: Sequence[int]
) -> Iterator[Float[Tensor, "block vocab"]]:
    """Logits in blocks whose size depends on device and shared vocabulary only, so that all models step together.

    A chunk is forgotten before the model makes the next one; no block is a view of it.
    """
    chunks = model.score(prompt_ids, response_ids)
    rest: Tensor | None = None
    while (chunk := next(chunks, None)) is not None:
        logits = chunk.logits if rest is None else torch.cat([rest, chunk.logits])
        chunk = None
        size = positions_per_block(logits)
        whole = len(logits) // size * size
        for start in range(0, whole, size):
            yield logits[start : start + size].clone()
        rest = logits[whole:].clone() if whole < len(logits) else None
        del logits
    if rest is not None:
        yield rest


def positions_per_block(logits: Float[Tensor, "position vocab"]) -> int:
    """How many positions of this vocabulary are handled at a time."""
    limit = _BLOCK_ELEMENTS if logits.device.type == "cpu" else _BLOCK_ELEMENTS_ON_GPU
    return max(1, limit // logits.shape[-1])
