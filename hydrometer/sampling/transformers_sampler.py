"""Batched rollouts from a transformers model, each prefix computed once (see `shared_prefix`)."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrometer.models.causal import warp_logprobs
from hydrometer.models.packing import packed_weights
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling.decoding import start_rows_of
from hydrometer.sampling.drawing import draw_tokens
from hydrometer.sampling.histories import Histories
from hydrometer.sampling.mixed_rows import Reading, read_by, start_reading
from hydrometer.sampling.protocol import Continuation, SampleRequest, SamplingSettings, numbers, room, settled
from hydrometer.sampling.rows import Rows, StartRows
from hydrometer.sampling.shared_prefix import SharedPrefixRows

_BATCH_BYTES = 1 << 30
_MAX_BATCH = 1024
_TOKENS_WORTH_PACKING = 12
"""Decoding steps that repay the copies of the weights."""
_STEPS_BETWEEN_LOOKS = 8
"""On an accelerator, which has to be waited for to know how many rows are open."""


class TransformersSampler:
    """Draws from `model` under `settings`."""

    def __init__(self, model: TransformersModel, settings: SamplingSettings, *, batch_size: int | None = None):
        self.model = model
        self.settings = settings
        self.batch_size = batch_size

    @cached_property
    def start_rows(self) -> StartRows:
        """How this model's rows are decoded, which its first use finds out."""
        return start_rows_of(self.model)

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        """See `Sampler`."""
        done = {i: settled(request, self.settings, self.model.eos_ids) for i, request in enumerate(requests)}
        open_rows = [i for i, continuation in done.items() if continuation is None]
        # those that share a prefix come together
        open_rows.sort(key=lambda i: (*requests[i].prompt_ids, *requests[i].prefix_ids), reverse=True)
        steps = max((room(requests[i], self.settings) for i in open_rows), default=0)
        with packed_weights(self.model.network) if steps >= _TOKENS_WORTH_PACKING else nullcontext():
            for rows in self._batches(requests, open_rows):
                drawn = _Batch(self.model, self.settings, [requests[i] for i in rows], self.start_rows).run()
                done.update(zip(rows, drawn, strict=True))
        return [continuation for i in range(len(requests)) if (continuation := done[i]) is not None]

    def _batches(self, requests: Sequence[SampleRequest], rows: list[int]) -> Iterator[list[int]]:
        """Rows whose caches and logits take about 1 GiB, or as many as were asked for."""
        most = self.batch_size or _MAX_BATCH
        budget = float("inf") if self.batch_size else _BATCH_BYTES
        batch: list[int] = []
        trunk: tuple[int, ...] = ()
        used = 0
        for row in rows:
            context = (*requests[row].prompt_ids, *requests[row].prefix_ids)
            if len(batch) == most or (batch and used + self._bytes(requests[row], context, trunk) > budget):
                yield batch
                batch, trunk, used = [], (), 0
            used += self._bytes(requests[row], context, trunk)
            trunk = trunk if trunk[: len(context)] == context else context
            batch.append(row)
        if batch:
            yield batch

    def _bytes(self, request: SampleRequest, context: tuple[int, ...], trunk: tuple[int, ...]) -> int:
        """What a row adds to a batch whose last trunk is given: keys and values, and what becomes of its logits."""
        is_shared = self.start_rows is SharedPrefixRows and trunk[: len(context)] == context
        tokens = room(request, self.settings) + (0 if is_shared else len(context))
        return len(request.prompts) * (tokens * self._bytes_per_token + 24 * self.model.output_size)

    @cached_property
    def _bytes_per_token(self) -> int:
        """Of keys and values."""
        config = self.model.network.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * config.num_hidden_layers * heads * width * self.model.network.dtype.itemsize


class _Batch:
    """The rows of one batch while they are being drawn; tensors are [step, row]."""

    def __init__(
        self,
        model: TransformersModel,
        settings: SamplingSettings,
        requests: Sequence[SampleRequest],
        start_rows: StartRows,
    ):
        self.model = model
        self.settings = settings
        self.start_rows = start_rows
        self.readings = [read_by(request) for request in requests]
        self.limits = np.array([room(request, settings) for request in requests])
        steps, device = int(self.limits.max()), model.device
        by_row = np.stack([numbers(request, steps) for request in requests], axis=1)
        self.uniforms = torch.from_numpy(by_row).to(device)
        self.token_ids = torch.zeros(steps, len(requests), dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(steps, len(requests), dtype=torch.float32, device=device)
        self.is_end = torch.zeros(model.output_size, dtype=torch.bool, device=device)
        self.is_end[sorted(model.eos_ids)] = True

    @torch.inference_mode()
    def run(self) -> list[Continuation]:
        """Draw until every row has ended or is full."""
        histories = Histories(self.readings, self.model.device)
        decoded = start_reading(self.start_rows, self.model, histories.contexts, len(self.token_ids))
        with decoded.installed():
            self._draw(decoded, histories)
        return self._continuations()

    def _draw(self, decoded: Rows, histories: Histories[Reading]) -> None:
        device = self.model.device
        limits = torch.from_numpy(self.limits).to(device)
        steps_with_a_limit = set(self.limits.tolist())
        inputs = torch.tensor([reading.contexts[0][-1] for reading in histories.contexts], device=device)
        rows = torch.arange(len(self.readings), device=device)
        is_open = torch.ones_like(rows, dtype=torch.bool)
        for step in range(len(self.token_ids)):
            logits = self._warped(decoded.step(inputs)[:, : self.model.vocab_size])
            drawn, drawn_logprobs = draw_tokens(logits, histories.of_row, self.uniforms[step].index_select(0, rows))
            self.token_ids[step].index_copy_(0, rows, drawn)
            self.logprobs[step].index_copy_(0, rows, drawn_logprobs.float())
            is_open &= ~self.is_end[drawn]
            if step + 1 in steps_with_a_limit:
                is_open &= limits[rows] > step + 1
            if device.type == "cpu" or (step + 1) % _STEPS_BETWEEN_LOOKS == 0:
                if not is_open.all():
                    histories.leave(is_open)
                    rows, drawn, is_open = rows[is_open], drawn[is_open], is_open[is_open]
                if not len(rows):
                    break
                kept = histories.part(drawn)
                if kept is not None:
                    decoded.keep(kept)
            inputs = histories.spread(drawn)

    def _warped(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, "row vocab"]:
        """The log-probabilities that are drawn from, up to a constant of each row."""
        warp = self.settings.warp
        if warp.top_p >= 1.0:
            return logits.float() / warp.temperature if warp.temperature != 1.0 else logits.float()
        # the edge of a nucleus falls where the scoring pass, which is in float64, will find it
        return warp_logprobs(logits.double(), warp)

    def _continuations(self) -> list[Continuation]:
        """Each row up to its first end of sequence, or its limit."""
        ends = self.is_end[self.token_ids].cpu().numpy()
        first_end = np.where(ends.any(0), ends.argmax(0), len(ends))
        lengths = np.minimum(first_end + 1, self.limits).tolist()
        ended = (first_end < self.limits).tolist()
        columns = zip(self.token_ids.T.tolist(), self.logprobs.T.tolist(), lengths, ended, strict=True)
        return [Continuation(tuple(ids[:n]), tuple(logprobs[:n]), is_end) for ids, logprobs, n, is_end in columns]
