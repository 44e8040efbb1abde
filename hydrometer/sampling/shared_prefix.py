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
        self._arrange()

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
        moving = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for layer in self.layers:
            layer.move(len(rows), moving, rows[moving])
        self._arrange()

    def _arrange(self) -> None:
        """Put the rows of a trunk side by side, and hide what of it they have not read."""
        slots = Slots(self.trunk_of_row, self.model.device)
        hidden = torch.arange(self.layers[0].trunk_keys.shape[2], device=self.model.device) >= self.lengths[:, None]
        bias = torch.zeros_like(hidden, dtype=self.model.network.dtype).masked_fill_(hidden, -torch.inf)
        for layer in self.layers:
            layer.arrange(slots, bias[:, None] if hidden.any() else None)


class _SharedLayer(CacheLayerMixin):
    """Keys and values of one layer of the model. `length` is how many tokens each row has added."""

    def __init__(
        self,
        trunk_keys: Float[Tensor, "trunk head context width"],
        trunk_values: Float[Tensor, "trunk head context value_width"],
        room: int,
    ):
        super().__init__()
        self.trunk_keys, self.trunk_values = trunk_keys, trunk_values
        self.room = room
        self.length = 0

    def arrange(self, slots: Slots, bias: Float[Tensor, "row 1 context"] | None) -> None:
        """Say which rows share a trunk, and what is hidden from them."""
        self.slots, self.bias = slots, bias
        self.group_keys = slots.by_group(self.trunk_keys)
        self.group_values = slots.by_group(self.trunk_values)

    def move(self, count: int, targets: Int[Tensor, " moving"], sources: Int[Tensor, " moving"]) -> None:
        """Go on with `count` rows, of which some take what others have added so far."""
        if self.keys is not None and self.values is not None:
            self.keys = self._moved(self.keys, count, targets, sources)
            self.values = self._moved(self.values, count, targets, sources)

    def _moved(
        self,
        states: Float[Tensor, "held head room width"],
        count: int,
        targets: Int[Tensor, " moving"],
        sources: Int[Tensor, " moving"],
    ) -> Float[Tensor, "held_now head room width"]:
        moving = states[:, :, : self.length].index_select(0, sources)
        if count > len(states):
            # half as many again, so that histories that part one by one are not copied each time
            grown = states.new_empty(max(count, len(states) * 3 // 2), *states.shape[1:])
            grown[: len(states), :, : self.length] = states[:, :, : self.length]
            states = grown
        states[:, :, : self.length].index_copy_(0, targets, moving)
        return states

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write each row's new position; what is returned goes to the attention function, which has no use for it."""
        if self.keys is None or self.values is None:
            n_rows, n_heads, _, _ = key_states.shape
            self.keys = key_states.new_empty(n_rows, n_heads, self.room, key_states.shape[3])
            self.values = value_states.new_empty(n_rows, n_heads, self.room, value_states.shape[3])
        self.keys[: len(key_states), :, self.length] = key_states[:, :, 0]
        self.values[: len(value_states), :, self.length] = value_states[:, :, 0]
        self.length += 1
        return key_states, value_states

    def attend(
        self, query: Float[Tensor, "row query_head width"], scale: float
    ) -> Float[Tensor, "row query_head value_width"]:
        """Attention of every row's one query over its part of the trunk and what the row has added."""
        assert self.keys is not None
        assert self.values is not None
        n_rows, n_heads, context = len(query), self.keys.shape[1], self.group_keys.shape[1]
        own_keys = self.keys[:n_rows].flatten(0, 1)[:, : self.length]
        own_values = self.values[:n_rows].flatten(0, 1)[:, : self.length]
        queries = (query * scale).reshape(n_rows * n_heads, -1, query.shape[2])
        of_trunk = self._with_groups(queries, self.group_keys.transpose(1, 2))
        if self.bias is not None:
            of_trunk.view(n_rows, -1, context).add_(self.bias)
        scores = torch.cat([of_trunk, torch.bmm(queries, own_keys.transpose(1, 2))], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        mixed = torch.bmm(weights[..., context:], own_values)
        mixed += self._with_groups(weights[..., :context], self.group_values)
        return mixed.view(n_rows, -1, mixed.shape[2])

    def _with_groups(
        self, left: Float[Tensor, "row_and_head query inner"], right: Float[Tensor, "group_and_head inner outer"]
    ) -> Float[Tensor, "row_and_head query outer"]:
        """Every row's product with the matrix of its group."""
        if self.slots.are_rows:
            return torch.bmm(left, right)
        n_heads, n_queries, inner = len(right) // len(self.slots.groups), left.shape[1], left.shape[2]
        slots = self.slots.from_rows(left.view(-1, n_heads, n_queries, inner))
        by_head = slots.view(-1, self.slots.size, n_heads, n_queries, inner).transpose(1, 2)
        product = torch.bmm(by_head.reshape(len(right), -1, inner), right)
        of_slots = product.view(-1, n_heads, self.slots.size, n_queries, right.shape[2]).transpose(1, 2)
        return self.slots.to_rows(of_slots.flatten(0, 1)).flatten(0, 1)

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
    """Keys and values of every layer, [trunk, head, context, width]; what stands right of a trunk is never read."""
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
        states = [(k, v) for k, v in computed if k is not None and v is not None]
        if not layers:
            layers = [tuple(s.new_zeros(len(trunks), s.shape[1], width, s.shape[3]) for s in pair) for pair in states]  # pyright: ignore[reportAssignmentType]
        for whole, part in zip(layers, states, strict=True):
            for target, source in zip(whole, part, strict=True):
                target[members, :, :longest] = source
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
