"""Rollouts that are there before a diagnosis begins: a finished run's, or a file of a user's own.

A corridor either samples rollouts or is given them. Given rollouts come with their kinds and grades; those of a run
also with the candidates and node weights that it chose, which are then not chosen again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from hydrometer.teachers import ListedCandidates
from hydrometer.types import Grades, Question, Rollout, RolloutKind


class FrozenPath(NamedTuple):
    """What another run chose along one path."""

    candidates: ListedCandidates
    """All that it listed: those that lacked visits there lack them here."""
    node_weights: Float64[np.ndarray, " position"]


class GivenRollout(NamedTuple):
    """A response with its grades."""

    rollout: Rollout
    grades: Grades
    logprobs: tuple[float, ...] | None = None
    """Of its tokens, by whoever sampled them, in nats; where they are known."""


@dataclass(frozen=True, slots=True)
class GivenQuestion:
    """One question, as student and teachers see it, and its rollouts."""

    question: Question
    rollouts: tuple[GivenRollout, ...]
    frozen: Mapping[int, FrozenPath] = field(default_factory=dict)
    """By rollout id of the path; empty where candidates are still to be chosen."""


@dataclass(frozen=True, slots=True)
class GivenRollouts:
    """All rollouts of a diagnosis that samples none of its own."""

    kind: Literal["run", "file"]
    source: str
    """The folder or the file, as it was named."""
    fingerprint: str
    """Of what was read: a resumed run must find the same."""
    questions: tuple[GivenQuestion, ...]
    notes: tuple[str, ...]
    """What a reader has to know of them, for the run's warnings."""
    left_out: tuple[str, ...] = ()
    """Ids of questions of the source that are not analysed."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """The entry `questions` of the source's run.json, which says how its questions were selected."""
    teachers: frozenset[str] = frozenset()
    """Of the source, where it chose the candidates: those that only another teacher favours are not among them."""

    def count_tokens(self, *kinds: RolloutKind) -> int:
        """Response tokens of the rollouts of these kinds."""
        rollouts = [given.rollout for question in self.questions for given in question.rollouts]
        return sum(len(rollout.token_ids) for rollout in rollouts if rollout.kind in kinds)

    def describe(self) -> dict[str, Any]:
        """The entry `given` of run.json."""
        return {
            "kind": self.kind,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "rollouts": sum(len(question.rollouts) for question in self.questions),
            "left_out_ids": list(self.left_out),
            "selection": dict(self.selection),
        }
