"""Several models walking one response together: logits in blocks of the same positions, whatever runs each model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from hydrometer.models.causal import CausalModel, LogitsChunk, ScoresTogether, Warp, warp_logprobs
from hydrometer.types import WeightedPrompt

_BLOCK_ELEMENTS = 1 << 18
"""Vocabulary x positions handled at a time on the CPU: 2 MiB per float64 array, which fits a cache."""
_BLOCK_ELEMENTS_ON_GPU = 1 << 24


def walk_logits(
    model: CausalModel, prompt_ids: Sequence[int], response_ids: Sequence[int]
) -> Iterator[Float[Tensor, "block vocab"]]:
    """Logits in blocks whose size depends on device and shared vocabulary only, so that all models step together."""
    return _in_blocks(model.score(prompt_ids, response_ids))


def walk_each(
    model: CausalModel, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]
) -> Iterator[Iterator[Float[Tensor, "block vocab"]]]:
    """The same for each of several responses to one prompt, which is computed once where the model can do that."""
    if isinstance(model, ScoresTogether):
        return map(_in_blocks, model.score_each(prompt_ids, responses))
    return (walk_logits(model, prompt_ids, response) for response in responses)


def walk_mixture(
    model: CausalModel, prompts: Sequence[WeightedPrompt], responses: Sequence[Sequence[int]]
) -> Iterator[Iterator[Float[Tensor, "block vocab"]]]:
    """The same under the weighted geometric mean of what a model says after several prompts.

    A weighted mean of logits is that mean's logits: the normalisers are constants of a position.
    """
    if len(prompts) == 1:
        return walk_each(model, prompts[0].prompt_ids, responses)
    each = [walk_each(model, prompt_ids, responses) for prompt_ids, _ in prompts]
    return (_weigh(walks, [weight for _, weight in prompts]) for walks in zip(*each, strict=True))


def _weigh(
    walks: Sequence[Iterator[Float[Tensor, "block vocab"]]], weights: Sequence[float]
) -> Iterator[Float[Tensor, "block vocab"]]:
    for blocks in zip(*walks, strict=True):
        mean = blocks[0].double() * weights[0]
        for block, weight in zip(blocks[1:], weights[1:], strict=True):
            mean += block * weight
        yield mean


def _in_blocks(chunks: Iterator[LogitsChunk]) -> Iterator[Float[Tensor, "block vocab"]]:
    """A chunk is forgotten before the model makes the next one; no block is a view of it."""
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


def drawn_logprobs(
    blocks: Iterator[Float[Tensor, "block vocab"]], response: Sequence[int], warp: Warp
) -> Float64[np.ndarray, " token"]:
    """Log-probability (nats) of every token of a response whose logits these are; -inf outside a nucleus."""
    parts, start = [np.zeros(0)], 0
    for logits in blocks:
        own = torch.tensor(response[start : start + len(logits)], device=logits.device)
        start += len(logits)
        parts.append(warp_logprobs(logits.double(), warp).gather(-1, own[:, None])[:, 0].cpu().numpy())
    return np.concatenate(parts)
