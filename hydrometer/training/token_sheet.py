"""Values of tokens that arrive in any order, chunk by chunk, put back in the order of the responses.

Nothing leaves the accelerator, and nothing waits for it, until all chunks are joined.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

_PLACES = 1 << 32
Columns = TypeVar("Columns", bound=tuple[Tensor, ...])


def token_keys(exercises: Int[Tensor, " row"], lengths: Int[Tensor, " row"]) -> Int[Tensor, " token"]:
    """One ascending number per token of rows that lie one after another: its exercise, then its position."""
    first = lengths.cumsum(0) - lengths
    position = torch.arange(int(lengths.sum()), device=lengths.device) - first.repeat_interleave(lengths)
    return exercises.repeat_interleave(lengths) * _PLACES + position


@dataclass(frozen=True, slots=True)
class Joined(Generic[Columns]):
    """All values, exercise after exercise."""

    exercise: Int[Tensor, " token"]
    values: Columns


class TokenSheet(Generic[Columns]):
    """Collects them; where a token comes twice the first values stay."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Columns] = []

    def add(self, keys: Int[Tensor, " token"], values: Columns) -> None:
        """The values of some tokens: a named tuple of [token] tensors."""
        self.keys.append(keys)
        self.values.append(values)

    def join(self) -> Joined[Columns] | None:
        """All that came; None if nothing did."""
        if not self.keys:
            return None
        keys, order = torch.cat(self.keys).sort(stable=True)
        is_first = torch.ones_like(keys, dtype=torch.bool)
        is_first[1:] = keys[1:] != keys[:-1]
        order = order[is_first]
        columns = [torch.cat(column)[order] for column in zip(*self.values, strict=True)]
        return Joined(keys[is_first] // _PLACES, type(self.values[0])(*columns))
