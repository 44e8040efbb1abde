"""A network taken apart for training: what makes hidden states, and the head that turns them into logits.

The split is checked once on a few tokens against the network's own logits, so that an architecture that does more
between the two than we know of is refused instead of trained wrongly.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy, deepcopy
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from hydrometer.errors import SpecError
from hydrometer.models.attention import attention_by
from hydrometer.models.rows import join_rows
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import predicting_states
from hydrometer.objectives.fused import Head

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.05}
"""Largest difference of a logit between both ways; the two round alike, so that a missing step shows as far more."""


def read_head(network: PreTrainedModel, vocab_size: int) -> Head:
    """The output layer over the first `vocab_size` token ids, which all models of a run share.

    Raises:
        SpecError: the network has no plain linear output layer.
    """
    layer = network.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise SpecError(
            f"{type(network).__name__} has no plain linear output layer ({type(layer).__name__}), which training needs."
        )
    config: Any = network.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    bias = None if layer.bias is None else layer.bias[:vocab_size]
    return Head(layer.weight[:vocab_size], bias, scale, None if softcap is None else float(softcap))


@torch.no_grad()
def check_head(model: TransformersModel) -> None:
    """Compare hidden states and head with the network's own logits.

    Raises:
        SpecError: they differ.
    """
    network, ids = model.network, list(range(min(8, model.vocab_size)))
    rows = join_rows([ids[:4]], [ids[4:] + ids[:1]], device=model.device)
    head = read_head(network, model.vocab_size)
    logits = (predicting_states(network, rows) @ head.weight.T).float()
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    own = network(input_ids=rows.token_ids[None], use_cache=False).logits[0, rows.predicts, : model.vocab_size].float()
    gap = float((logits - own).abs().max())
    if not gap <= _TOLERANCE[network.dtype] * max(1.0, float(own.abs().max()) / 10):
        raise SpecError(
            f"'{model.spec}' ({type(network).__name__}): its logits are not those of its output layer (they differ by "
            f"{gap:.3g}), so the loss would be of another model. This architecture cannot be trained here yet."
        )


def add_lora(model: TransformersModel, *, rank: int, alpha: float | None, seed: int) -> PeftModel:
    """Put an adapter on all linear layers but the output layer, in place; its start changes nothing."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules="all-linear")  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft asks it
        torch.manual_seed(seed)
        adapted = get_peft_model(model.network, config)
    if not isinstance(adapted, PeftModel):
        raise TypeError(f"expected a PeftModel, got {type(adapted).__name__}")
    return adapted


@contextmanager
def recomputing(network: PreTrainedModel, is_on: bool) -> Iterator[None]:
    """Layers keep no activations for the backward pass but compute them again, while it is entered and `is_on`.

    Not longer: such layers heed no key-value cache, so that sampling would forget what stands before. Dropout stays
    off, for the gradient is that of the distribution that was sampled from.

    Raises:
        SpecError: the network has no layers that can.
    """
    layers = layers_of(network)
    if is_on and not layers:
        raise SpecError(f"{type(network).__name__} has no layers that --gradient-checkpointing can compute again.")
    again: Any = partial(checkpoint, use_reentrant=False, context_fn=partial(_attending_as_now, network))
    for layer in layers if is_on else []:
        layer.training = layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again
    try:
        yield
    finally:
        for layer in layers:
            layer.training = layer.gradient_checkpointing = False


def layers_of(network: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """The layers that the network is a stack of, as far as transformers marks them; the first one first."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


def _attending_as_now(network: PreTrainedModel) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What a layer is entered with the first time and when it is computed again."""
    return nullcontext(), attention_by(network, network.config.get_text_config(decoder=True)._attn_implementation)


def freeze_copy(model: TransformersModel) -> TransformersModel:
    """A model of its own that stays as this one is now."""
    frozen = copy(model)
    frozen.network = deepcopy(model.network)
    frozen.network.requires_grad_(False)
    return frozen


def without_adapter(adapted: PeftModel | None) -> AbstractContextManager[Any]:
    """Takes the adapter away while it is entered; nothing where there is none."""
    return nullcontext() if adapted is None else adapted.disable_adapter()
