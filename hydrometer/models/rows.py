"""Prompts with their responses as one prefix tree.

Rows that begin alike (with a system prompt, with the question that several rollouts answer) share what they begin with:
a node is a distinct prefix, and its hidden state is made once, whatever the number of rows that it stands in (see
`hydrometer.models.tree_pass`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Rows(NamedTuple):
    """A batch of prompts and responses. The last response token is no input: nothing after it is predicted."""

    token_ids: Int[Tensor, " node"]
    """The last token of each prefix, row after row."""
    depths: Int[Tensor, " node"]
    """How many tokens stand before it."""
    nodes: Int[Tensor, "row place"]
    """The node at each place of each row; any beyond the row's end."""
    places: Int[Tensor, " node"]
    """A place in the flattened rows where the node is."""
    predicts: Int[Tensor, " token"]
    """The node after which a response token comes, row by row as many as its response has."""
    targets: Int[Tensor, " token"]
    """The response tokens, row after row."""


def join_rows(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, device: torch.device) -> Rows:
    """Put rows together; every prompt has at least one token."""
    children: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    origins: list[tuple[int, int]] = []
    paths: list[list[int]] = []
    predicts: list[int] = []
    for prompt, response in zip(prompts, responses, strict=True):
        path = [-1]
        for token in (*prompt, *response[:-1]):
            node = children.setdefault((path[-1], token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                origins.append((len(paths), len(path) - 1))
            path.append(node)
        paths.append(path[1:])
        predicts += path[len(prompt) :][: len(response)]
    width = max(map(len, paths))
    origin = torch.tensor(origins)
    return Rows(
        torch.tensor(tokens).to(device),
        origin[:, 1].to(device),
        torch.tensor([[*path, *[0] * (width - len(path))] for path in paths]).to(device),
        (origin[:, 0] * width + origin[:, 1]).to(device),
        torch.tensor(predicts, dtype=torch.int64).to(device),
        torch.tensor([token for response in responses for token in response], dtype=torch.int64).to(device),
    )
