"""Prompts with their responses as one right-padded batch, and the hidden states that predict the response tokens.

Under causal attention what stands right of a row's end is never seen from the row, so no attention mask is needed and
positions count from the first prompt token, as they do when the response is sampled.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel


class Rows(NamedTuple):
    """A batch of prompts and responses. The last response token is no input: nothing after it is predicted."""

    input_ids: Int[Tensor, "row input"]
    predicts: Bool[Tensor, "row input"]
    """True at the inputs whose output predicts a response token, row by row as many as its response has."""
    targets: Int[Tensor, " token"]
    """The response tokens, row after row."""


def pad_rows(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device) -> Rows:
    """Put rows together; every prompt has at least one token."""
    inputs = [[*prompt, *response[:-1]] for prompt, response in zip(prompts, responses, strict=True)]
    width = max(map(len, inputs), default=1)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in inputs]).reshape(len(inputs), width)
    first = torch.tensor([len(prompt) - 1 for prompt in prompts])[:, None]
    last = first + torch.tensor([len(response) for response in responses])[:, None]
    place = torch.arange(width)
    targets = torch.tensor([token for response in responses for token in response], dtype=torch.int64)
    return Rows(ids.to(device), ((place >= first) & (place < last)).to(device), targets.to(device))


def predicting_states(network: PreTrainedModel, rows: Rows) -> Float[Tensor, "token width"]:
    """The last hidden states that predict `rows.targets`, in the same order."""
    hidden = network.base_model(input_ids=rows.input_ids, use_cache=False).last_hidden_state
    return hidden[rows.predicts]
