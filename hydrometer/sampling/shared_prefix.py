"""Decoding rows that share prefixes, each prefix computed and stored once, through transformers' own interfaces.

A trunk is the longest of the contexts that are prefixes of one another, such as a prompt and an analysed response. Its
keys and values are computed once and never repeated per row. What a row adds to it lies in a block of its own, reserved
from the start, so that a step writes one position and copies nothing. With one query per row

    softmax(scale [q K_trunk | q K_own]) [V_trunk | V_own]

is two products of matrices on either side of one softmax, the rows of a trunk side by side in the first and each row
with its own block in the second. Where a row ends within its trunk, a mask hides the rest. Keys carry their absolute
position from the trunk, and each row continues at its own.

The model's code is not touched: the attention function is registered with transformers under a name of its own, which
stands in the configuration while a step runs, and the cache is a list of layers in transformers' sense.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from hydrometer.models.attention import attention_by
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import prefix_caches, takes_trees
from hydrometer.sampling.slots import Slots

_NAME = "hydrometer_shared_prefix"
_PADDING = 1.25
"""Trunks are computed together while padding makes them at most so much longer."""
_NOT_TAKEN = ("softcap", "s_aux", "sliding_window", "position_bias")
"""What some models want of their attention besides a scale."""


class SharedPrefixRows:
    """See `Rows`."""

    def __init__(self, model: TransformersModel, contexts: Sequence[tuple[int, ...]], room: int):
        self.model = model
        trunks, self.trunk_of_row = cover_by_trunks(contexts)
        self.lengths = torch.tensor([len(context) for context in contexts], device=model.device)
        self.positions = self.lengths.clone()
        layers = [_SharedLayer(keys, values, room) for keys, values in _compute_trunks(model, trunks)]
        self.cache = Cache(layers=list(layers))
        self.layers = layers
        self.slots = Slots(self.trunk_of_row, model.device)
        self._arrange(None)

    def installed(self) -> AbstractContextManager[None]:
        """See `Rows`."""
        return attention_by(self.model.network, _NAME)

    def step(self, token_ids: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """See `Rows`."""
        logits = self.model.network(
            input_ids=token_ids[:, None],
            position_ids=self.positions[:, None],
            past_key_values=self.cache,
            shared_prefix=self.layers,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self.positions = self.positions + 1
        return logits[:, -1]

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """See `Rows`."""
        self.trunk_of_row = [self.trunk_of_row[row] for row in rows.tolist()]
        self.lengths, self.positions = self.lengths[rows], self.positions[rows]
        before = self.slots
        self.slots = Slots(self.trunk_of_row, self.model.device)
        self._arrange(before.slot_of_row[rows[self.slots.row_of_slot]])

    def _arrange(self, sources: Int[Tensor, " slot"] | None) -> None:
        """Give the slots their keys; `sources` are the slots that their rows stood in before."""
        width = self.layers[0].trunk_keys.shape[2]
        hidden = torch.arange(width, device=self.model.device) >= self.lengths[self.slots.row_of_slot, None]
        bias = torch.zeros_like(hidden, dtype=self.model.network.dtype).masked_fill_(hidden, -torch.inf)
        for layer in self.layers:
            layer.arrange(self.slots, bias if hidden.any() else None, sources)


class _SharedLayer(CacheLayerMixin):
    """Keys and values of one layer of the model. `length` is how many tokens each row has added."""

    def __init__(
        self,
        trunk_keys: Float[Tensor, "head trunk context width"],
        trunk_values: Float[Tensor, "head trunk context value_width"],
        room: int,
    ):
        super().__init__()
        self.trunk_keys, self.trunk_values = trunk_keys, trunk_values
        self.room = room
        self.length = 0

    def arrange(
        self, slots: Slots, bias: Float[Tensor, "slot context"] | None, sources: Int[Tensor, " slot"] | None
    ) -> None:
        """Place the rows in slots, with what they have added so far."""
        self.slots = slots
        self.bias = None if bias is None else bias[:, None]
        self.group_keys = slots.by_group(self.trunk_keys)
        self.group_values = slots.by_group(self.trunk_values)
        self.keys = self._moved(self.keys, self.trunk_keys, sources)
        self.values = self._moved(self.values, self.trunk_values, sources)

    def _moved(
        self,
        states: Float[Tensor, "held head room width"] | None,
        trunk_states: Float[Tensor, "head trunk context width"],
        sources: Int[Tensor, " slot"] | None,
    ) -> Float[Tensor, "held_now head room width"]:
        """The rows' own states where the slots want them; those that stay in their place are not touched."""
        if states is None or sources is None:
            n_heads, _, _, width = trunk_states.shape
            return trunk_states.new_empty(self.slots.count, n_heads, self.room, width)
        if len(sources) > len(states):
            grown = states.new_empty(len(sources), *states.shape[1:])
            grown[:, :, : self.length] = states[sources, :, : self.length]
            return grown
        moving = (sources != torch.arange(len(sources), device=sources.device)).nonzero()[:, 0]
        states[moving, :, : self.length] = states[sources[moving], :, : self.length]
        return states

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write each row's new position; what is returned goes to the attention function, which has no use for it."""
        assert self.keys is not None
        assert self.values is not None
        self.keys[: self.slots.count, :, self.length] = self.slots.from_rows(key_states[:, :, 0])
        self.values[: self.slots.count, :, self.length] = self.slots.from_rows(value_states[:, :, 0])
        self.length += 1
        return key_states, value_states

    def attend(
        self, query: Float[Tensor, "row query_head width"], scale: float
    ) -> Float[Tensor, "row query_head value_width"]:
        """Attention of every row's one query over its part of the trunk and what the row has added."""
        assert self.keys is not None
        assert self.values is not None
        n_slots, n_heads, context = self.slots.count, self.keys.shape[1], self.group_keys.shape[1]
        per_group, per_row = (len(self.group_keys), -1), (n_slots * n_heads, -1)
        own_keys = self.keys.flatten(0, 1)[: per_row[0], : self.length]
        own_values = self.values.flatten(0, 1)[: per_row[0], : self.length]
        queries = (self.slots.from_rows(query) * scale).reshape(n_slots, n_heads, -1, query.shape[2])
        by_head = queries.transpose(0, 1).reshape(*per_group, query.shape[2])
        of_trunk = (by_head @ self.group_keys.transpose(1, 2)).view(n_heads, n_slots, -1, context)
        if self.bias is not None:
            of_trunk += self.bias
        of_own = queries.view(*per_row, query.shape[2]) @ own_keys.transpose(1, 2)
        scores = torch.cat([of_trunk.transpose(0, 1), of_own.view(n_slots, n_heads, -1, self.length)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        mixed_trunk = weights[..., :context].transpose(0, 1).reshape(*per_group, context) @ self.group_values
        mixed_own = weights[..., context:].view(*per_row, self.length) @ own_values
        mixed = mixed_own.view(n_slots, n_heads, -1, mixed_own.shape[2])
        mixed += mixed_trunk.view(n_heads, n_slots, -1, mixed_own.shape[2]).transpose(0, 1)
        return self.slots.to_rows(mixed.flatten(1, 2))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """No mask is made for this attention."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Positions of the longest row."""
        return self.trunk_keys.shape[2] + self.length

    def get_max_length(self) -> int:
        """What there is room for."""
        return self.trunk_keys.shape[2] + self.room


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    shared_prefix: list[_SharedLayer],
    **wanted: Any,
) -> tuple[Tensor, None]:
    """An attention function in transformers' sense, for one query token per row."""
    if any(wanted.get(name) is not None for name in _NOT_TAKEN):
        raise NotImplementedError(f"attention with {', '.join(_NOT_TAKEN)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = shared_prefix[getattr(module, "layer_idx")]  # noqa: B009 - every attention module of transformers has it
    return layer.attend(query[:, :, 0], scale)[:, None], None


AttentionInterface.register(_NAME, _attend)


def takes(model: TransformersModel) -> bool:
    """Whether every layer of the model caches all keys and values, as far as transformers knows."""
    cache = DynamicCache(config=model.network.config)
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def cover_by_trunks(contexts: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The longest of the contexts that are prefixes of one another, and which of them each context is a prefix of."""
    trunks: list[tuple[int, ...]] = []
    trunk_of_row = [0] * len(contexts)
    # in this order the contexts that extend one stand right before it
    for row in sorted(range(len(contexts)), key=lambda i: contexts[i], reverse=True):
        if not trunks or trunks[-1][: len(contexts[row])] != contexts[row]:
            trunks.append(contexts[row])
        trunk_of_row[row] = len(trunks) - 1
    return trunks, trunk_of_row


def _compute_trunks(model: TransformersModel, trunks: list[tuple[int, ...]]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, [head, trunk, context, width]; what stands right of a trunk is never read."""
    if all(trunks) and takes_trees(model.network):
        return prefix_caches(model.network, trunks)
    width = max(1, *map(len, trunks))
    layers: list[tuple[Tensor, Tensor]] = []
    for members in _similar_lengths(trunks):
        longest = max(1, *(len(trunks[member]) for member in members))
        # padding on the right is not seen by what stands left of it
        inputs = [[*trunks[member], *[0] * (longest - len(trunks[member]))] for member in members]
        cache = DynamicCache(config=model.network.config)
        model.network(
            input_ids=torch.tensor(inputs, device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        computed = [(layer.keys, layer.values) for layer in cache.layers if isinstance(layer, DynamicLayer)]
        states = [(k.transpose(0, 1), v.transpose(0, 1)) for k, v in computed if k is not None and v is not None]
        if not layers:
            layers = [tuple(s.new_zeros(len(s), len(trunks), width, s.shape[3]) for s in pair) for pair in states]  # pyright: ignore[reportAssignmentType]
        for whole, part in zip(layers, states, strict=True):
            for target, source in zip(whole, part, strict=True):
                target[:, members, :longest] = source
    return layers


def _similar_lengths(trunks: list[tuple[int, ...]]) -> list[list[int]]:
    """Trunks in parts that padding does not make much longer."""
    parts: list[list[int]] = []
    tokens = 0
    for member in sorted(range(len(trunks)), key=lambda i: -len(trunks[i])):
        tokens += len(trunks[member])
        if not parts or len(trunks[parts[-1][0]]) * (len(parts[-1]) + 1) > _PADDING * tokens:
            parts.append([])
            tokens = len(trunks[member])
        parts[-1].append(member)
    return parts
