"""Decoding with nothing but a model's own cache and attention: slower, and right for any causal model of transformers.

Distinct contexts are computed once, padded on the left, and repeated for the rows that share them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from hydrometer.models.transformers_model import TransformersModel


class PaddedRows:
    """See `Rows`."""

    def __init__(self, model: TransformersModel, contexts: Sequence[tuple[int, ...]], room: int):
        self.model = model
        self.cache = DynamicCache(config=model.network.config)
        distinct = sorted(set(contexts), key=len)
        lengths = torch.tensor([len(context) for context in distinct], device=model.device)
        width = len(distinct[-1])
        self.mask = torch.arange(width, device=model.device) >= width - lengths[:, None]
        self.positions = lengths
        if width:
            inputs = torch.tensor([[*[0] * (width - len(c)), *c] for c in distinct], device=model.device)
            self._forward(inputs, (self.mask.cumsum(1) - 1).clamp(min=0))
        place = {context: number for number, context in enumerate(distinct)}
        self.keep(torch.tensor([place[context] for context in contexts], device=model.device))

    def installed(self) -> AbstractContextManager[None]:
        """See `Rows`; nothing is needed."""
        return nullcontext()

    def step(self, token_ids: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """See `Rows`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token_ids), 1)], dim=1)
        logits = self._forward(token_ids[:, None], self.positions[:, None])
        self.positions = self.positions + 1
        return logits

    def _forward(
        self, token_ids: Int[Tensor, "row token"], positions: Int[Tensor, "row token"]
    ) -> Float[Tensor, "row vocab"]:
        return self.model.network(
            input_ids=token_ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """See `Rows`."""
        self.mask, self.positions = self.mask[rows], self.positions[rows]
        if self.cache.get_seq_length():
            self.cache.batch_select_indices(rows)
