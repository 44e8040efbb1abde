"""Several models walking one response together: logits in blocks of the same positions, whatever runs each model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from hydrometer.models.causal import CausalModel, Warp, warp_logprobs

_BLOCK_ELEMENTS = 1 << 18
"""Vocabulary x positions handled at a time on the CPU: 2 MiB per float64 array, which fits a cache."""
_BLOCK_ELEMENTS_ON_GPU = 1 << 24


def walk_logits(
    model: CausalModel, prompt_ids: Sequence[int], response_ids: Sequence[int]
) -> Iterator[Float[Tensor, "block vocab"]]:
    """Logits in blocks whose size depends on device and shared vocabulary only, so that all models step together."""
    held: list[Tensor] = []
    for chunk in model.score(prompt_ids, response_ids):
        held.append(chunk.logits)
        size = positions_per_block(chunk.logits)
        while sum(map(len, held)) >= size:
            joined = torch.cat(held) if len(held) > 1 else held[0]
            yield joined[:size]
            held = [joined[size:]] if len(joined) > size else []
    if held:
        yield torch.cat(held)


def positions_per_block(logits: Float[Tensor, "position vocab"]) -> int:
    """How many positions of this vocabulary are handled at a time."""
    limit = _BLOCK_ELEMENTS if logits.device.type == "cpu" else _BLOCK_ELEMENTS_ON_GPU
    return max(1, limit // logits.shape[-1])


def response_logprobs(
    model: CausalModel, prompt_ids: Sequence[int], response: Sequence[int], warp: Warp
) -> Float64[np.ndarray, " token"]:
    """Log-probability (nats) of every token of one response; -inf outside a nucleus."""
    parts = [np.zeros(0)]
    for chunk in model.score(prompt_ids, response):
        ids = torch.tensor(response[chunk.start : chunk.start + len(chunk.logits)], device=chunk.logits.device)
        logprobs = warp_logprobs(chunk.logits.double(), warp)
        parts.append(logprobs.gather(-1, ids[:, None])[:, 0].cpu().numpy())
    return np.concatenate(parts)
