"""Where each row of a batch stands while attention is computed: side by side with the rows of the same trunk."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_ROWS_PER_GROUP = 4
"""Rows whose attention takes about as long as one more group does."""


class Slots:
    """Groups of equally many slots, each group with the rows of one trunk.

    A trunk with many rows may have several groups. The last of them may have empty slots, which hold the trunk's first
    row once more and compute something that nobody reads.
    """

    def __init__(self, trunk_of_row: Sequence[int], device: torch.device):
        rows: dict[int, list[int]] = {}
        for row, trunk in enumerate(trunk_of_row):
            rows.setdefault(trunk, []).append(row)
        self.size = _best_size([len(members) for members in rows.values()])
        row_of_slot: list[int] = []
        trunk_of_group: list[int] = []
        for trunk, members in rows.items():
            n_groups = -(-len(members) // self.size)
            row_of_slot += members + members[:1] * (n_groups * self.size - len(members))
            trunk_of_group += [trunk] * n_groups
        # the first of a row's slots is where its keys are read from
        slot_of_row = {row: slot for slot, row in reversed(list(enumerate(row_of_slot)))}
        self.count = len(row_of_slot)
        self.is_plain = row_of_slot == list(range(len(trunk_of_row)))
        self.are_rows = self.is_plain and self.size == 1
        self.groups = trunk_of_group
        self.trunk_of_group = torch.tensor(trunk_of_group, device=device)
        self.row_of_slot = torch.tensor(row_of_slot, device=device)
        self.slot_of_row = torch.tensor([slot_of_row[row] for row in range(len(trunk_of_row))], device=device)

    def from_rows(self, states: Float[Tensor, "row head query inner"]) -> Float[Tensor, "slot head query inner"]:
        """The states of each slot's row."""
        return states if self.is_plain else states.index_select(0, self.row_of_slot)

    def to_rows(self, states: Float[Tensor, "slot head query inner"]) -> Float[Tensor, "row head query inner"]:
        """The states of each row's slot."""
        return states if self.is_plain else states.index_select(0, self.slot_of_row)

    def by_group(
        self, states: Float[Tensor, "trunk head context width"]
    ) -> Float[Tensor, "group_and_head context width"]:
        """The states of each group's trunk, for every head."""
        is_each_once = self.groups == list(range(len(states)))
        return (states if is_each_once else states.index_select(0, self.trunk_of_group)).flatten(0, 1)


def _best_size(counts: list[int]) -> int:
    """The size of group at which rows, empty slots and groups cost least."""

    def cost(size: int) -> int:
        return sum(-(-count // size) for count in counts) * (size + _ROWS_PER_GROUP)

    return min(set(counts), key=cost)
