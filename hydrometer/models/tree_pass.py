"""A network's forward pass over a prefix tree: every layer but attention sees each node once, and no padding.

In attention a node's query meets the keys of the nodes above it and its own. There nodes are laid out as right-padded
rows once more, for a plain causal attention; a node that stands in several rows is read in the first. What stands right
of a node in its row is never seen from it, so that its hidden state is that of a pass over the row alone, up to
rounding. A network that is not built of such layers (a recurrence over the positions, windows, an attention of its own)
gets the padded rows instead; so does one whose hidden states differ between the two ways on a small tree.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from hydrometer.matmul import fast_matmul, without_fast_matmul
from hydrometer.models.attention import attention_by
from hydrometer.models.rows import Rows, join_rows

_ALONG_ROWS = "hydrometer_along_rows"
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest norm of the difference between both ways, as a share of the norm. A node that sees what it must not, or is at
the wrong position, differs far more."""
_KNOWN: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def predicting_states(network: PreTrainedModel, rows: Rows) -> Float[Tensor, "token width"]:
    """The last hidden states that predict `rows.targets`, in the same order."""
    states = _tree_states(network, rows) if takes_trees(network) else _padded_states(network, rows)
    return states.index_select(0, rows.predicts)


def prefix_caches(
    network: PreTrainedModel, prefixes: Sequence[Sequence[int]]
) -> list[tuple[Float[Tensor, "prefix head place width"], Float[Tensor, "prefix head place value_width"]]]:
    """Keys and values of every layer, what prefixes begin alike with computed once; for a network that takes trees.

    What stands right of a prefix's end is that of some other token.
    """
    rows = join_rows(prefixes, [[0]] * len(prefixes), device=network.device)
    cache = DynamicCache(config=network.config)
    _tree_states(network, rows, cache)
    computed = [(layer.keys, layer.values) for layer in cache.layers if isinstance(layer, DynamicLayer)]
    pairs = [(k, v) for k, v in computed if k is not None and v is not None]
    return [(_lay_out(k, rows).contiguous(), _lay_out(v, rows).contiguous()) for k, v in pairs]


def takes_trees(network: PreTrainedModel) -> bool:
    """Whether a pass over a tree gives the hidden states of passes over its rows; tried once for each network."""
    if network not in _KNOWN:
        _KNOWN[network] = _is_plain(network) and _agrees(network)
    return _KNOWN[network]


def fast_backward(network: PreTrainedModel) -> AbstractContextManager[None]:
    """Products of a backward pass from `predicting_states` by the faster library, where that pass is over a tree."""
    return fast_matmul(network.device) if takes_trees(network) else nullcontext()


def _tree_states(network: PreTrainedModel, rows: Rows, cache: Cache | None = None) -> Float[Tensor, "node width"]:
    inputs: dict[str, Any] = {"input_ids": rows.token_ids[None], "position_ids": rows.depths[None], "rows": rows}
    with attention_by(network, _ALONG_ROWS), fast_matmul(network.device):
        found = network.base_model(**inputs, past_key_values=cache, use_cache=cache is not None)
        return found.last_hidden_state[0]


def _padded_states(network: PreTrainedModel, rows: Rows) -> Float[Tensor, "node width"]:
    states = network.base_model(input_ids=rows.token_ids[rows.nodes], use_cache=False).last_hidden_state
    return states.flatten(0, 1).index_select(0, rows.places)


def _attend(
    module: nn.Module,
    query: Float[Tensor, "1 head node width"],
    key: Float[Tensor, "1 kv_head node width"],
    value: Float[Tensor, "1 kv_head node value_width"],
    attention_mask: None,
    *,
    rows: Rows,
    **named: Any,
) -> tuple[Float[Tensor, "1 node head value_width"], None]:
    """What transformers calls in place of its own attention."""

    def along_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **named)[0]

    found = without_fast_matmul(along_rows, *(_lay_out(states, rows) for states in (query, key, value)))
    return found.flatten(0, 1).index_select(0, rows.places)[None], None


def _lay_out(states: Float[Tensor, "1 head node width"], rows: Rows) -> Float[Tensor, "row head place width"]:
    flat = states[0].transpose(0, 1).index_select(0, rows.nodes.flatten())
    return flat.unflatten(0, rows.nodes.shape).transpose(1, 2)


AttentionInterface.register(_ALONG_ROWS, _attend)


def _is_plain(network: PreTrainedModel) -> bool:
    """No window or chunk, which a small tree would not show."""
    config: Any = network.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    limits = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return config._attn_implementation == "sdpa" and kinds == {"full_attention"} and not any(limits)


@torch.no_grad()
def _agrees(network: PreTrainedModel) -> bool:
    ids = [token % network.config.get_text_config().vocab_size for token in range(1, 9)]
    rows = join_rows([ids[:2], ids[:3]], [ids[3:], ids[:2:-1]], device=network.device)
    expected = _padded_states(network, rows)
    try:
        found = _tree_states(network, rows)
    except Exception:  # its layers fail in their own ways on what they do not know
        return False
    return bool((found - expected).norm() <= _TOLERANCE[network.dtype] * expected.norm())
