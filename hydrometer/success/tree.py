"""The prefix tree of one question: which counted rollouts passed which (path, position, token), and how they ended.

    visits(path, position, token)    = # counted rollouts y with y[:position] == path[:position], y[position] == token
                                       and forced_tokens(y) <= position + 1
    successes(path, position, token) = those of them that are correct

Only `base` and `branch` rollouts are counted. The last condition keeps a rollout that was forced deeper out of its
ancestors' rates: its prefix was chosen by the allocation, not by the model, so it does not say how ancestors end.
Departure: arXiv 2605.10889 merges all rollouts into one tree and does not say how it avoids that bias.

The tree holds nodes for prefixes of the analysed paths and nothing else, so its size is bounded by the paths, and a
rollout costs one dictionary step per token that it shares with some path. Paths with a common prefix share its nodes.

    tree = PrefixTree("q1"); tree.add_path(path); tree.count(rollout); tree.visits(path.rollout_id, 0, token)
"""

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from hydrometer.types import COUNTED_KINDS, STUDENT, Rollout

VISIT_SCHEMA: dict[str, type[pl.DataType]] = {
    "question_id": pl.String,
    "rollout_id": pl.Int64,
    "position": pl.Int64,
    "token_id": pl.Int64,
    "counted_rollout_id": pl.Int64,
    "correct": pl.Boolean,
}
"""Columns of a visit log; `rollout_id` is the path's. Rows are sorted by all but `correct`."""


class Outcomes(NamedTuple):
    """The counted rollouts through one (node, token), by ascending rollout id."""

    rollout_ids: Int64[np.ndarray, " visit"]
    correct: Bool[np.ndarray, " visit"]

    @property
    def visits(self) -> int:
        """How many rollouts there are."""
        return len(self.rollout_ids)

    @property
    def successes(self) -> int:
        """How many of them are correct."""
        return int(self.correct.sum())

    def halves(self) -> tuple["Outcomes", "Outcomes"]:
        """Halves a and b, alternating by rollout id: the first rollout is in a, the second in b, and so on."""
        a = Outcomes(self.rollout_ids[0::2], self.correct[0::2])
        b = Outcomes(self.rollout_ids[1::2], self.correct[1::2])
        return a, b


class PrefixTree:
    """Visits and outcomes along the analysed paths of one question, for one continuing model."""

    def __init__(self, question_id: str, *, model: str = STUDENT):
        self.question_id = question_id
        self.model = model
        """Who continues: only rollouts of this model are counted. Paths may be anyone's; they are never counted."""
        self._children: list[dict[int, int]] = [{}]
        # One array per (node, token) of 2 * rollout_id + correct: 8 bytes a visit, and sorting it sorts by rollout id.
        self._visits: list[dict[int, array[int]]] = [{}]
        self._path_nodes: dict[int, list[int]] = {}
        self._counted: set[int] = set()
        self._branches: Counter[int] = Counter()

    def add_path(self, path: Rollout) -> None:
        """Grow the tree along an analysed path: one node per position of its response.

        Raises:
            ValueError: Not a `path` of this question, an id that is taken, or rollouts have already been counted
                (they would be missing at the new nodes).
        """
        self._refuse_foreign(path)
        if path.kind != "path":
            raise ValueError(f"Expected a rollout of kind 'path', got '{path.kind}' (rollout {path.rollout_id}).")
        if self._counted:
            raise ValueError(
                f"Path {path.rollout_id} came after {len(self._counted)} counted rollouts; add paths first."
            )
        node, nodes = 0, []
        for token in path.token_ids:
            nodes.append(node)
            node = self._child(node, token)
        self._path_nodes[path.rollout_id] = nodes

    def count(self, rollout: Rollout) -> None:
        """Count a base or branch rollout wherever it follows a path, from its last forced token on.

        Raises:
            ValueError: A rollout of another question, kind or model, one already counted, or `forced_tokens` that does
                not fit its kind and length.
        """
        self._refuse_uncountable(rollout)
        self._counted.add(rollout.rollout_id)
        first_position = rollout.forced_tokens - 1
        if rollout.kind == "branch":
            self._branches[first_position] += 1
        code = 2 * rollout.rollout_id + rollout.correct
        node = 0
        for position, token in enumerate(rollout.token_ids):
            if position >= first_position:
                visits = self._visits[node]
                if token in visits:
                    visits[token].append(code)
                else:
                    visits[token] = array("q", (code,))
            child = self._children[node].get(token)
            if child is None:
                return
            node = child

    @property
    def path_lengths(self) -> Mapping[int, int]:
        """Positions of every path, by its rollout id."""
        return {path_id: len(nodes) for path_id, nodes in self._path_nodes.items()}

    @property
    def counted(self) -> int:
        """How many rollouts have been counted."""
        return len(self._counted)

    @property
    def branches(self) -> Mapping[int, int]:
        """How many branches have been counted, by the position of the token they were forced to."""
        return self._branches

    def node(self, path_id: int, position: int) -> int:
        """Number of the node at a position of a path; equal for paths that share the prefix.

        Raises:
            ValueError: No such path, or a position outside it.
        """
        nodes = self._path_nodes.get(path_id)
        if nodes is None:
            raise ValueError(f"Question {self.question_id} has no path {path_id} (paths: {sorted(self._path_nodes)}).")
        if not 0 <= position < len(nodes):
            raise ValueError(f"Path {path_id} has positions 0 to {len(nodes) - 1}, got {position}.")
        return nodes[position]

    def visits(self, path_id: int, position: int, token: int) -> int:
        """Counted rollouts that took `token` at this position of the path."""
        taken = self._visits[self.node(path_id, position)].get(token)
        return 0 if taken is None else len(taken)

    def visits_at(
        self, nodes: Int64[np.ndarray, " candidate"], tokens: Int64[np.ndarray, " candidate"]
    ) -> Int64[np.ndarray, " candidate"]:
        """`visits` of many (node, token) pairs at once, nodes as numbered by `node`."""
        pairs = zip(nodes.tolist(), tokens.tolist(), strict=True)
        counts = [len(self._visits[node].get(token, ())) for node, token in pairs]
        return np.array(counts, dtype=np.int64)

    def counts_at(
        self, nodes: Int64[np.ndarray, " candidate"], tokens: Int64[np.ndarray, " candidate"]
    ) -> tuple[Int64[np.ndarray, " candidate"], Int64[np.ndarray, " candidate"]]:
        """Visits and successes of many (node, token) pairs at once, nodes as numbered by `node`."""
        pairs = zip(nodes.tolist(), tokens.tolist(), strict=True)
        taken = [self._visits[node].get(token, ()) for node, token in pairs]
        visits = np.array([len(codes) for codes in taken], dtype=np.int64)
        return visits, np.array([sum(code & 1 for code in codes) for codes in taken], dtype=np.int64)

    def outcomes(self, path_id: int, position: int) -> dict[int, Outcomes]:
        """Counted rollouts and their outcomes at a node, by token; tokens nobody took are absent."""
        taken = self._visits[self.node(path_id, position)]
        return {token: _decode(codes) for token, codes in sorted(taken.items())}

    def visit_log(self) -> pl.DataFrame:
        """Every visit of every path, in long form (`VISIT_SCHEMA`); a shared prefix gives rows to each of its paths."""
        nodes = pl.DataFrame(
            [
                (path_id, position, node)
                for path_id, path in self._path_nodes.items()
                for position, node in enumerate(path)
            ],
            schema={"rollout_id": pl.Int64, "position": pl.Int64, "node": pl.Int64},
            orient="row",
        )
        log = nodes.join(self._node_visits(), on="node").with_columns(question_id=pl.lit(self.question_id))
        return log.select(*VISIT_SCHEMA).sort("rollout_id", "position", "token_id", "counted_rollout_id")

    def _node_visits(self) -> pl.DataFrame:
        """One row per node and visit: node, token_id, counted_rollout_id, correct."""
        taken = [(node, token, codes) for node, visits in enumerate(self._visits) for token, codes in visits.items()]
        lengths = np.array([len(codes) for _, _, codes in taken], dtype=np.int64)
        codes = np.concatenate([np.empty(0, np.int64), *(np.array(codes, dtype=np.int64) for _, _, codes in taken)])
        return pl.DataFrame(
            {
                "node": np.repeat(np.array([node for node, _, _ in taken], dtype=np.int64), lengths),
                "token_id": np.repeat(np.array([token for _, token, _ in taken], dtype=np.int64), lengths),
                "counted_rollout_id": codes >> 1,
                "correct": (codes & 1).astype(bool),
            }
        )

    def _child(self, node: int, token: int) -> int:
        children = self._children[node]
        if token not in children:
            children[token] = len(self._children)
            self._children.append({})
            self._visits.append({})
        return children[token]

    def _refuse_foreign(self, rollout: Rollout) -> None:
        if rollout.question_id != self.question_id:
            raise ValueError(
                f"Rollout {rollout.rollout_id} is of question {rollout.question_id}; the tree is of {self.question_id}."
            )
        if rollout.rollout_id in self._counted or rollout.rollout_id in self._path_nodes:
            raise ValueError(f"Rollout {rollout.rollout_id} of question {self.question_id} is in the tree already.")

    def _refuse_uncountable(self, rollout: Rollout) -> None:
        self._refuse_foreign(rollout)
        name = f"Rollout {rollout.rollout_id} of question {self.question_id}"
        if rollout.kind not in COUNTED_KINDS:
            raise ValueError(f"{name} is of kind '{rollout.kind}'; only {' and '.join(COUNTED_KINDS)} are counted.")
        if rollout.model != self.model:
            raise ValueError(f"{name} was continued by '{rollout.model}'; this tree counts '{self.model}'.")
        fewest, most = (1, len(rollout.token_ids)) if rollout.kind == "branch" else (0, 0)
        if not fewest <= rollout.forced_tokens <= most:
            raise ValueError(
                f"{name} ({rollout.kind}) has {rollout.forced_tokens} forced tokens, not {fewest} to {most}."
            )


def _decode(codes: "array[int]") -> Outcomes:
    ordered = np.sort(np.array(codes, dtype=np.int64))
    return Outcomes(ordered >> 1, (ordered & 1).astype(bool))
