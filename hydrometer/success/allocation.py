"""Which branch to sample next: the strategies that bring the candidates of the analysed nodes to enough visits.

A strategy is a value. What it asks for is a function of what has been counted (the tree) and of the fixed list of
candidates, of nothing else, so that a run that stops between two rounds goes on exactly as it would have.

    listed = list_forcible(tree, candidates_of_the_paths)
    while branches := strategy.next_round(tree, listed, limit=256):
        ...sample branch.count continuations of path[:position] + (token,) for each, and tree.count(...) them

Forcing changes how often a (node, token) is visited, never its success rate, as long as a forced rollout is kept out of
its ancestors' counts (`tree`). A branch asked for early also passes later nodes of its path; those visits are paid for
once, which is why small rounds (`limit`) cost fewer rollouts in all and large ones fewer model calls.

`Windowed` is the targeted sampling of arXiv 2605.10889, with three choices of ours: nodes are those of the analysed
paths only, a token needs student probability > 0, and a node needs two such candidates (one alone has no direction).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from hydrometer.errors import SpecError
from hydrometer.success.tree import PrefixTree
from hydrometer.success.worth import can_matter, estimate_worth


@dataclass(frozen=True, slots=True)
class Branch:
    """Sample `count` rollouts from the first `position` tokens of a path followed by `token_id`."""

    path_id: int
    position: int
    token_id: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class PathCandidates:
    """The candidates of every node of one path, in any order."""

    rollout_id: int
    """Of the path."""
    position: Int[np.ndarray, " candidate"]
    token_id: Int[np.ndarray, " candidate"]
    student_prob: Float[np.ndarray, " candidate"]
    priority_gradient: Float[np.ndarray, " candidate"]
    """Largest |p_k (l_k - sum_j p_j l_j)| of any teacher, l = log p - log q on the full vocabulary (reverse KL)."""
    priority_difference: Float[np.ndarray, " candidate"]
    """Largest |q_k - p_k| of any teacher."""


@dataclass(frozen=True, slots=True, eq=False)
class Forcible:
    """The (node, token) pairs of a question that may be forced, each once, by position, path and token."""

    node: Int64[np.ndarray, " pair"]
    """As numbered by the tree."""
    path_id: Int64[np.ndarray, " pair"]
    """The first path through the node."""
    position: Int64[np.ndarray, " pair"]
    token_id: Int64[np.ndarray, " pair"]
    student_prob: Float[np.ndarray, " pair"]
    priority_gradient: Float[np.ndarray, " pair"]
    priority_difference: Float[np.ndarray, " pair"]

    def __len__(self) -> int:
        return len(self.node)


@runtime_checkable
class Allocation(Protocol):
    """Decides which branches of one question to sample next."""

    def next_round(self, tree: PrefixTree, listed: Forcible, *, limit: int) -> list[Branch]:
        """Branches to sample now, in order, at most `limit` rollouts in all; empty when there is nothing left to do."""
        ...

    def planned(self, tree: PrefixTree, listed: Forcible) -> int:
        """Upper estimate of the rollouts still to come, for progress; visits gained on the way make it fewer."""
        ...

    def ceiling(self, pairs: int) -> int:
        """Most rollouts that `pairs` (node, token) pairs of one question can cost, for an estimate before sampling."""
        ...


def list_forcible(tree: PrefixTree, paths: Sequence[PathCandidates]) -> Forcible:
    """The pairs that any strategy may force: student probability > 0, at nodes with at least two such candidates.

    A prefix shared by several paths is listed once, under the path with the smallest rollout id.

    Raises:
        ValueError: A path or position that the tree does not have.
    """
    first: dict[tuple[int, int], tuple[int, int, int, int, int, int]] = {}
    ordered = sorted(paths, key=lambda path: path.rollout_id)
    for rank, path in enumerate(ordered):
        for index in np.flatnonzero(_branching(path)).tolist():
            position, token = int(path.position[index]), int(path.token_id[index])
            node = tree.node(path.rollout_id, position)
            first.setdefault((node, token), (position, path.rollout_id, token, node, rank, index))
    rows = sorted(first.values())
    position, path_id, token_id, node = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(4))

    def values(name: str) -> Float[np.ndarray, " pair"]:
        return np.array([getattr(ordered[rank], name)[index] for *_, rank, index in rows], dtype=np.float64)

    names = ("student_prob", "priority_gradient", "priority_difference")
    return Forcible(node, path_id, position, token_id, *map(values, names))


@dataclass(frozen=True, slots=True)
class OnPolicy:
    """No branches: the base rollouts are all there is."""

    def next_round(self, tree: PrefixTree, listed: Forcible, *, limit: int) -> list[Branch]:
        """Nothing, ever."""
        return []

    def planned(self, tree: PrefixTree, listed: Forcible) -> int:
        """Zero."""
        return 0

    def ceiling(self, pairs: int) -> int:
        """Zero."""
        return 0


@dataclass(frozen=True, slots=True)
class FixedVisits:
    """Every listed pair is topped up to the same number of visits, shallow positions first."""

    visits: int

    def __post_init__(self) -> None:
        _refuse_below_one(visits=self.visits)

    def next_round(self, tree: PrefixTree, listed: Forcible, *, limit: int) -> list[Branch]:
        """The shallowest missing visits: their free continuations also serve the deeper pairs of the next round."""
        return _fill(listed, np.arange(len(listed)), _missing(tree, listed, self.visits), limit)

    def planned(self, tree: PrefixTree, listed: Forcible) -> int:
        """All visits that are missing now."""
        return int(_missing(tree, listed, self.visits).sum())

    def ceiling(self, pairs: int) -> int:
        """`visits` each."""
        return pairs * self.visits


@dataclass(frozen=True, slots=True)
class Windowed:
    """Depth windows that double in width share a budget; inside one, the pairs with the largest gradient come first.

    Windows are positions [w (2^i - 1), w (2^(i+1) - 1)) with w = `first_window`. Each window that holds a listed pair
    gets an equal share of `budget`; what a window leaves unspent goes to the deeper ones, never back.
    """

    n_min: int
    """Visits at which a pair is left alone."""
    budget: int
    """Branch rollouts per question."""
    first_window: int = 50
    batch: int = 20
    """Most continuations of one pair in one round; below the visits that a kept candidate needs, a short budget can end
    with many pairs that are all too thin."""

    def __post_init__(self) -> None:
        _refuse_below_one(n_min=self.n_min, budget=self.budget, first_window=self.first_window, batch=self.batch)

    def next_round(self, tree: PrefixTree, listed: Forcible, *, limit: int) -> list[Branch]:
        """The best pairs of the shallowest window that has both visits missing and budget left."""
        missing = _missing(tree, listed, self.n_min)
        window = self._window(listed.position)
        branch_positions = np.array(sorted(tree.branches), dtype=np.int64)
        spent = np.array([tree.branches[position] for position in branch_positions.tolist()], dtype=np.int64)
        windows = np.unique(window)
        for rank, current in enumerate(windows.tolist(), start=1):
            wanted = np.where(window == current, np.minimum(missing, self.batch), 0)
            allowance = self.budget * rank // len(windows)
            left = allowance - int(spent[self._window(branch_positions) <= current].sum())
            if left > 0 and wanted.any():
                return _fill(listed, _by_priority(listed), wanted, min(limit, left))
        return []

    def planned(self, tree: PrefixTree, listed: Forcible) -> int:
        """Missing visits, as far as the budget goes."""
        return min(int(_missing(tree, listed, self.n_min).sum()), max(self.budget - sum(tree.branches.values()), 0))

    def ceiling(self, pairs: int) -> int:
        """`n_min` each, as far as the budget goes."""
        return min(pairs * self.n_min, self.budget)

    def _window(self, position: Int64[np.ndarray, " pair"]) -> Int64[np.ndarray, " pair"]:
        deepest = int(position.max(initial=0))
        starts = [self.first_window * (2**i - 1) for i in range((deepest // self.first_window + 1).bit_length())]
        return np.searchsorted(np.array(starts), position, side="right") - 1


@dataclass(frozen=True, slots=True)
class Map:
    """A few visits wherever a token could matter, then more the likelier it does: for advice token by token.

    A pair is wanted visits x sqrt(P x 4 Var) times, P the chance that it matters and Var that of one outcome (see
    `worth`): the division of a fixed number of rollouts that makes the summed error variance of mattering rates least.
    No pair more than doubles at once, so that P follows the counts. Departure: arXiv 2605.10889 looks at no outcome.
    """

    visits: int
    """Of a pair that surely matters and whose outcomes are even."""
    first: int = 4
    """Of every pair that could matter."""

    def __post_init__(self) -> None:
        _refuse_below_one(visits=self.visits, first=self.first)

    def targets(
        self,
        node: Int64[np.ndarray, " pair"],
        student_prob: Float[np.ndarray, " pair"],
        visits: Int64[np.ndarray, " pair"],
        successes: Int64[np.ndarray, " pair"],
    ) -> Int64[np.ndarray, " pair"]:
        """Visits that every pair should have now."""
        worth = estimate_worth(node, student_prob, visits, successes)
        wanted = np.ceil(self.visits * np.sqrt(4.0 * worth.probability * worth.variance)).astype(np.int64)
        grown = np.maximum(np.minimum(wanted, 2 * visits), min(self.first, self.visits))
        return np.where(can_matter(node, student_prob), grown, 0)

    def next_round(self, tree: PrefixTree, listed: Forcible, *, limit: int) -> list[Branch]:
        """The shallowest missing visits: their free continuations also serve the deeper pairs of the next round."""
        return _fill(listed, np.arange(len(listed)), self._missing(tree, listed), limit)

    def planned(self, tree: PrefixTree, listed: Forcible) -> int:
        """All visits that are missing now; those that outcomes will ask for come on top."""
        return int(self._missing(tree, listed).sum())

    def ceiling(self, pairs: int) -> int:
        """`visits` each."""
        return pairs * self.visits

    def _missing(self, tree: PrefixTree, listed: Forcible) -> Int64[np.ndarray, " pair"]:
        visits, successes = tree.counts_at(listed.node, listed.token_id)
        return np.maximum(self.targets(listed.node, listed.student_prob, visits, successes) - visits, 0)


def _branching(path: PathCandidates) -> Bool[np.ndarray, " candidate"]:
    """Which candidates of a path have p > 0 and stand at a node with another such candidate."""
    possible = path.student_prob > 0
    positions, counts = np.unique(path.position[possible], return_counts=True)
    return possible & np.isin(path.position, positions[counts >= 2])


def _missing(tree: PrefixTree, listed: Forcible, target: int) -> Int64[np.ndarray, " pair"]:
    return np.maximum(target - tree.visits_at(listed.node, listed.token_id), 0)


def _by_priority(listed: Forcible) -> Int64[np.ndarray, " pair"]:
    """Largest gradient first, then largest probability difference, then the order of the list."""
    return np.lexsort((-listed.priority_difference, -listed.priority_gradient))


def _fill(
    listed: Forcible, order: Int64[np.ndarray, " pair"], wanted: Int64[np.ndarray, " pair"], limit: int
) -> list[Branch]:
    """Grant `wanted` rollouts in `order` until `limit` is reached."""
    _refuse_below_one(limit=limit)
    before = np.cumsum(wanted[order]) - wanted[order]
    granted = np.clip(limit - before, 0, wanted[order])
    chosen, counts = order[granted > 0], granted[granted > 0]
    rows = zip(
        listed.path_id[chosen].tolist(),
        listed.position[chosen].tolist(),
        listed.token_id[chosen].tolist(),
        counts.tolist(),
        strict=True,
    )
    return [Branch(*row) for row in rows]


def _refuse_below_one(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise SpecError(f"Expected '{name}' of the allocation to be at least 1, got {value}.")
