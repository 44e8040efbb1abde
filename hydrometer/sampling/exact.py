"""A model as the function that exact enumeration asks: next-token distributions after many prefixes of one question.

oracle = next_logprobs(model, prompt_ids, warp)
enumerate_success(oracle, verify, Limits(eos_ids=model.eos_ids, max_tokens=96), prefix=(5, 7))
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64

from hydrometer.models import Warp, warp_logprobs
from hydrometer.models.transformers_model import TransformersModel

_BATCH = 128


def next_logprobs(
    model: TransformersModel, prompt_ids: tuple[int, ...], warp: Warp
) -> Callable[[list[tuple[int, ...]]], Float64[np.ndarray, "prefix vocab"]]:
    """The warped next-token log-probabilities (nats, -inf outside the nucleus) after each response prefix."""

    @torch.inference_mode()
    def ask(prefixes: list[tuple[int, ...]]) -> Float64[np.ndarray, "prefix vocab"]:
        rows = [_last_logits(model, prompt_ids, prefixes[i : i + _BATCH]) for i in range(0, len(prefixes), _BATCH)]
        return warp_logprobs(torch.cat(rows).double(), warp).cpu().numpy()

    return ask


def _last_logits(
    model: TransformersModel, prompt_ids: tuple[int, ...], prefixes: list[tuple[int, ...]]
) -> torch.Tensor:
    """Logits after each prefix; padding stands on the right, where causal attention never sees it."""
    sequences = [(*prompt_ids, *prefix) for prefix in prefixes]
    width = max(map(len, sequences))
    inputs = torch.tensor([[*s, *[s[-1]] * (width - len(s))] for s in sequences], device=model.device)
    last = torch.tensor([len(s) - 1 for s in sequences], device=model.device)
    wanted, which = last.unique(return_inverse=True)
    logits = model.network(input_ids=inputs, logits_to_keep=wanted, use_cache=False).logits
    return logits[torch.arange(len(sequences), device=model.device), which, : model.vocab_size]
