"""Rows that have read the same tokens so far have one history, which the model computes once until a draw parts them.

Continuations of one prefix agree for as long as the student is sure of what comes next. Each row keeps its own random
numbers and draws its own token, so that nothing is shared but the forward pass whose result would be the same.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_MOST_IDLE = 4
"""Histories that nobody follows any more ride along until they are one in so many."""
_Read = TypeVar("_Read", bound=Hashable)
"""What says what a row has read."""


class Histories(Generic[_Read]):
    """Which of the model's rows each open row of a batch follows.

    Attributes:
        contexts: what each history has read in the beginning.
        of_row: the history of every open row.
        count: of histories, those included that nobody follows any more.
    """

    def __init__(self, contexts: Sequence[_Read], device: torch.device):
        if device.type == "cpu":
            place = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
            self.contexts, places = list(place), [place[context] for context in contexts]
        else:  # another row costs next to nothing there, and knowing which are equal would mean waiting for the device
            self.contexts, places = list(contexts), list(range(len(contexts)))
        self.count = len(self.contexts)
        self.of_row = torch.tensor(places, device=device)

    def leave(self, is_open: Bool[Tensor, " row"]) -> None:
        """Forget the rows that are not open."""
        self.of_row = self.of_row[is_open]

    def spread(self, token_ids: Int[Tensor, " row"]) -> Int[Tensor, " history"]:
        """The next token of each history, where rows that follow the same one drew the same; 0 where nobody follows."""
        return token_ids.new_zeros(self.count).index_copy_(0, self.of_row, token_ids)

    def part(self, token_ids: Int[Tensor, " row"]) -> Int[Tensor, " history"] | None:
        """Give rows that drew different tokens different histories.

        Returns:
            Which of the histories of before each one of now continues, or None where all stay as they are. Those that
            one row or more still follow keep their place as far as possible, so that few have to be moved.
        """
        base = int(token_ids.max()) + 1
        pairs, pair_of_row = torch.unique(self.of_row * base + token_ids, return_inverse=True)
        parents = pairs // base
        is_first = torch.ones_like(parents, dtype=torch.bool)
        is_first[1:] = parents[1:] != parents[:-1]
        n_pairs, n_followed = len(pairs), int(is_first.sum())
        if n_pairs == n_followed and (self.count - n_followed) * _MOST_IDLE < self.count:
            return None
        stays = is_first & (parents < n_pairs)
        is_free = torch.ones_like(is_first)
        is_free[parents[stays]] = False
        places = parents.clone()
        places[~stays] = is_free.nonzero()[:, 0]
        self.of_row, self.count = places[pair_of_row], n_pairs
        return torch.empty_like(parents).index_copy_(0, places, parents)
