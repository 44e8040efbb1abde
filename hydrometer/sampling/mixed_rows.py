"""Rows that are drawn from the mean of what a model says after several prompts, each of them a row of the model.

    log p*(token) = sum_I w_I log q_I(token) - log Z

The mean of the logits is that up to a constant. A row's prompts read the same response, token by token.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling.protocol import SampleRequest
from hydrometer.sampling.rows import Rows, StartRows


class Reading(NamedTuple):
    """What a row has read: a context for each of its prompts, and their weights."""

    contexts: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]


def read_by(request: SampleRequest) -> Reading:
    """What the row of a request has read when it starts."""
    contexts = tuple((*prompt_ids, *request.prefix_ids) for prompt_ids, _ in request.prompts)
    return Reading(contexts, tuple(weight for _, weight in request.prompts))


def start_reading(start_rows: StartRows, model: TransformersModel, readings: Sequence[Reading], room: int) -> Rows:
    """One row for each reading; the first step reads the last token of its contexts."""
    contexts = [context[:-1] for reading in readings for context in reading.contexts]
    decoded = start_rows(model, contexts, room)
    return decoded if len(contexts) == len(readings) else MixedRows(decoded, readings, model.device)


class MixedRows:
    """See `Rows`; each row is several of another's, side by side."""

    def __init__(self, decoded: Rows, readings: Sequence[Reading], device: torch.device):
        self.decoded = decoded
        self.row = torch.arange(len(readings), device=device).repeat_interleave(
            torch.tensor([len(reading.weights) for reading in readings], device=device)
        )
        self.weights = torch.tensor([weight for reading in readings for weight in reading.weights], device=device)
        last = [context[-1] for reading in readings for context in reading.contexts]
        self.unread: Tensor | None = torch.tensor(last, device=device)
        """Ends of the contexts, until the first step has read them: prompts may end in different tokens."""
        self.count = len(readings)

    def installed(self) -> AbstractContextManager[None]:
        """See `Rows`."""
        return self.decoded.installed()

    def step(self, token_ids: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """See `Rows`."""
        inputs, self.unread = token_ids[self.row] if self.unread is None else self.unread, None
        logits = self.decoded.step(inputs).float() * self.weights[:, None]
        return logits.new_zeros(self.count, logits.shape[1]).index_add_(0, self.row, logits)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """See `Rows`."""
        kept, place = (self.row == rows[:, None]).nonzero(as_tuple=True)[::-1]
        self.decoded.keep(kept)
        self.weights, self.row, self.count = self.weights[kept], place, len(rows)
