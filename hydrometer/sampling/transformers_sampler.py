"""Batched rollouts from a transformers model, each prefix computed once.

The prefixes of a batch are covered by a few trunks (a trunk is the longest of the contexts that are prefixes of one
another, such as the prompt and an analysed response). A trunk's keys and values are computed once; every row then takes
the part it needs, right-aligned so that rows of different lengths share a batch. Keys carry their absolute position
from the trunk, and each row continues at its own position, so left padding changes nothing but the mask.

A token is drawn by inverse transform: the first whose cumulative probability exceeds the row's next uniform number.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from hydrometer.models.causal import warp_logprobs
from hydrometer.models.packing import packed_weights
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling.protocol import Continuation, SampleRequest, SamplingSettings, room, settled
from hydrometer.sampling.seeding import uniforms

_BATCH_BYTES = 1 << 30
_MAX_BATCH = 256
_TOKENS_WORTH_PACKING = 32
"""Decoding steps that repay the copies of the weights several times over."""
_BLOCK = 256
"""Neighbouring token ids whose probabilities are summed first."""


class TransformersSampler:
    """Draws from `model` under `settings`."""

    def __init__(self, model: TransformersModel, settings: SamplingSettings, *, batch_size: int | None = None):
        self.model = model
        self.settings = settings
        self.batch_size = batch_size

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        """See `Sampler`."""
        done = {i: settled(request, self.settings, self.model.eos_ids) for i, request in enumerate(requests)}
        open_rows = [i for i, continuation in done.items() if continuation is None]
        open_rows.sort(key=lambda i: (requests[i].prompt_ids, requests[i].prefix_ids[:-1]))
        size = self.batch_size or self._fitting_batch(requests)
        is_long = self.settings.max_response_tokens >= _TOKENS_WORTH_PACKING
        with packed_weights(self.model.network) if is_long else nullcontext():
            for start in range(0, len(open_rows), size):
                rows = open_rows[start : start + size]
                drawn = _Batch(self.model, self.settings, [requests[i] for i in rows]).run()
                done.update(zip(rows, drawn, strict=True))
        return [continuation for i in range(len(requests)) if (continuation := done[i]) is not None]

    def _fitting_batch(self, requests: Sequence[SampleRequest]) -> int:
        """Rows whose caches and logits take about 1 GiB."""
        config = self.model.network.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        longest = max((len(r.prompt_ids) for r in requests), default=0) + self.settings.max_response_tokens
        cache = 2 * config.num_hidden_layers * heads * width * longest * self.model.network.dtype.itemsize
        return max(1, min(_MAX_BATCH, _BATCH_BYTES // (2 * cache + 24 * self.model.output_size)))


class _Batch:
    """The rows of one batch while they are being drawn."""

    def __init__(self, model: TransformersModel, settings: SamplingSettings, requests: Sequence[SampleRequest]):
        self.model = model
        self.settings = settings
        contexts = [(*r.prompt_ids, *r.prefix_ids) for r in requests]
        limits = [room(request, settings) for request in requests]
        longest = max(limits)
        device = model.device
        self.contexts = contexts
        self.limits = torch.tensor(limits, device=device)
        self.uniforms = torch.from_numpy(np.stack([uniforms(r.seed, longest) for r in requests])).to(device)
        self.token_ids = torch.zeros(len(requests), longest, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(len(requests), longest, dtype=torch.float32, device=device)
        self.lengths = torch.zeros(len(requests), dtype=torch.int64, device=device)
        self.ended = torch.zeros(len(requests), dtype=torch.bool, device=device)
        self.eos_ids = torch.tensor(sorted(model.eos_ids), dtype=torch.int64, device=device)

    @torch.inference_mode()
    def run(self) -> list[Continuation]:
        """Draw until every row has ended or is full; rows that are done ride along until a quarter of them are."""
        device = self.model.device
        cache, mask = _build_row_cache(self.model, [context[:-1] for context in self.contexts])
        inputs = torch.tensor([context[-1] for context in self.contexts], device=device)
        positions = torch.tensor([len(context) - 1 for context in self.contexts], device=device)
        rows = torch.arange(len(self.contexts), device=device)
        is_open = torch.ones_like(rows, dtype=torch.bool)
        for step in range(self.token_ids.shape[1]):
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = self.model.network(
                input_ids=inputs[:, None],
                attention_mask=mask,
                position_ids=positions[:, None],
                past_key_values=cache,
                logits_to_keep=1,
            ).logits[:, -1, : self.model.vocab_size]
            # the edge of a nucleus falls where the scoring pass, which is in float64, will find it
            exact = logits.float() if self.settings.warp.top_p >= 1.0 else logits.double()
            logprobs = warp_logprobs(exact, self.settings.warp)
            inputs, drawn_logprobs = draw_tokens(logprobs, self.uniforms[rows, step])
            self._record(step, rows[is_open], inputs[is_open], drawn_logprobs[is_open])
            is_open = is_open & ~torch.isin(inputs, self.eos_ids) & (self.limits[rows] > step + 1)
            n_open = int(is_open.sum())
            if n_open == 0:
                break
            positions = positions + 1
            if n_open <= len(rows) * 3 // 4:
                rows, inputs, positions, mask = rows[is_open], inputs[is_open], positions[is_open], mask[is_open]
                mask = _keep_rows(cache, is_open, mask)
                is_open = torch.ones_like(rows, dtype=torch.bool)
        return self._continuations()

    def _record(self, step: int, rows: Tensor, token_ids: Tensor, logprobs: Tensor) -> None:
        self.token_ids[rows, step] = token_ids
        self.logprobs[rows, step] = logprobs.float()
        self.lengths[rows] = step + 1
        self.ended[rows] = torch.isin(token_ids, self.eos_ids)

    def _continuations(self) -> list[Continuation]:
        columns = zip(
            self.token_ids.tolist(), self.logprobs.tolist(), self.lengths.tolist(), self.ended.tolist(), strict=True
        )
        return [Continuation(tuple(ids[:n]), tuple(logprobs[:n]), ended) for ids, logprobs, n, ended in columns]


def draw_tokens(
    logprobs: Float[Tensor, "row vocab"], numbers: Float[Tensor, " row"]
) -> tuple[Int[Tensor, " row"], Float[Tensor, " row"]]:
    """One token per row by inverse transform, with its log-probability; a token of probability 0 is never drawn.

    First the block of the vocabulary that the number falls into, then the token in it: of most of the vocabulary only
    the sums of blocks are needed. Cumulative sums are in float64.
    """
    probs = logprobs.exp()
    blocks = nn.functional.pad(probs, (0, -probs.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    # a number so close to 1 that rounding carries it past the total would fall off the end of the table
    thresholds = numbers[:, None].clamp(max=1 - 1e-12) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, thresholds, right=True)
    inside = blocks.gather(1, chosen[..., None].expand(-1, -1, _BLOCK))[:, 0].double().cumsum(-1)
    left = thresholds - (cumulative - sums).gather(-1, chosen)
    # the block's sum was rounded in another order, so that a little too much may be left
    left = left.clamp(min=0.0).minimum(inside[:, -1:] * (1 - 1e-12))
    token_ids = chosen * _BLOCK + torch.searchsorted(inside, left, right=True)
    return token_ids[:, 0], logprobs.gather(-1, token_ids)[:, 0]


def _build_row_cache(
    model: TransformersModel, contexts: Sequence[tuple[int, ...]]
) -> tuple[DynamicCache, Bool[Tensor, "row context"]]:
    """Keys and values of every row's context, right-aligned, and the mask of what is not padding."""
    lengths = [len(context) for context in contexts]
    width = max(lengths)
    mask = torch.zeros(len(contexts), width, dtype=torch.bool, device=model.device)
    for row, length in enumerate(lengths):
        mask[row, width - length :] = True
    if width == 0:
        return DynamicCache(), mask
    layers: list[tuple[Tensor, Tensor]] = []
    for trunk, rows in _cover_by_trunks(contexts).items():
        inputs = torch.tensor(trunk, device=model.device)[None]
        computed = DynamicCache()
        model.network(input_ids=inputs, past_key_values=computed, logits_to_keep=1)
        if not layers:
            layers = [(_room(k, len(contexts), width), _room(v, len(contexts), width)) for k, v in _states(computed)]
        for length in {lengths[row] for row in rows}:
            same = torch.tensor([row for row in rows if lengths[row] == length], device=model.device)
            for (keys, values), (trunk_keys, trunk_values) in zip(layers, _states(computed), strict=True):
                keys[same, :, width - length :] = trunk_keys[0, :, :length]
                values[same, :, width - length :] = trunk_values[0, :, :length]
    return DynamicCache(ddp_cache_data=layers), mask


def _states(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, [row, head, length, width] (widths may differ)."""
    pairs = [(layer.keys, layer.values) for layer in cache.layers if isinstance(layer, DynamicLayer)]
    return [(keys, values) for keys, values in pairs if keys is not None and values is not None]


def _room(states: Tensor, n_rows: int, length: int) -> Tensor:
    """Zeros for as many rows and positions, in the shape of one layer's keys or values."""
    return states.new_zeros(n_rows, states.shape[1], length, states.shape[3])


def _cover_by_trunks(contexts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """Rows by the longest context that theirs is a prefix of."""
    trunks: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(range(len(contexts)), key=lambda i: -len(contexts[i])):
        context = contexts[row]
        trunk = next((trunk for trunk in trunks if trunk[: len(context)] == context), context)
        trunks.setdefault(trunk, []).append(row)
    return trunks


def _keep_rows(
    cache: DynamicCache, is_open: Bool[Tensor, " row"], mask: Bool[Tensor, "kept length"]
) -> Bool[Tensor, "kept length_left"]:
    """Drop closed rows from the cache, and the columns that are padding in all rows that stay."""
    padding = int(mask.any(0).int().argmax())
    for layer, (keys, values) in zip(cache.layers, _states(cache), strict=True):
        assert isinstance(layer, DynamicLayer)
        layer.keys = keys[is_open, :, padding:]
        layer.values = values[is_open, :, padding:]
    return mask[:, padding:]
