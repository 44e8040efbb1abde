"""The journalled part of a run: every piece of paid work is one round, computed once and replayed afterwards.

`Rounds.run(kind, key, work)` returns what the journal holds for the next round, or does the work and appends it. A run
asks for the same rounds in the same order whether it runs for the first time or resumes, so that resuming is running
again with answers that are already there. Without a journal nothing is kept, and every round is work.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydrometer.artifacts import Journal
from hydrometer.errors import RunFolderError
from hydrometer.models import CausalModel, ScoreCache
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.progress import Progress

Record = dict[str, Any]
_LOWER_THE_NEED = (
    "Lower --batch-size (fewer rollouts at a time) and go on with --resume; nothing that was paid for is lost. "
    "If that is not enough, start again with a lower --max-response-tokens or --dtype bfloat16."
)
_LOWER_UNKEPT = "Lower --batch-size (fewer rollouts at a time) or --max-response-tokens, or try --dtype bfloat16."


@dataclass(slots=True)
class Cost:
    """What has been paid for, also by earlier sittings of the same run."""

    rollouts: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    cached_tokens: int = 0
    """Scored tokens whose hidden states were in the score cache."""
    wall_s: float = 0.0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one round."""
        self.rollouts += record.get("n_rollouts", 0)
        self.generated_tokens += record.get("generated_tokens", 0)
        self.scored_tokens += record.get("scored_tokens", 0)
        self.cached_tokens += record.get("cached_tokens", 0)
        self.wall_s += record["wall_s"]


@dataclass(slots=True)
class Rounds:
    """The journal and how far into it the run is."""

    journal: Journal | None
    """None where the run keeps no files."""
    progress: Progress
    cost: Cost = field(default_factory=Cost)
    stages: dict[str, Cost] = field(default_factory=dict)
    """What this sitting spent, by kind of round; without what was replayed."""
    done: int = 0
    score_cache: ScoreCache | None = None
    """Of the models of this run."""

    def run(self, kind: str, key: Sequence[Any], work: Callable[[], Record]) -> Record:
        """The record of the next round.

        Raises:
            RunFolderError: the journal holds another round here (it was written by another version or input).
            MemoryLimitError: the work did not fit.
            DiskError: the record could not be written; the round will be redone.
        """
        records = () if self.journal is None else self.journal.records
        if self.journal is not None and self.done < len(records):
            record = records[self.done]
            if record.get("round") != kind or record.get("key") != list(key):
                raise RunFolderError(
                    f"{self.journal.path}: round {self.done} is {record.get('round')} {record.get('key')}, but this "
                    f"run would now do {kind} {list(key)}. The code or the data changed; start again in a new folder."
                )
            self.journal.records[self.done] = {}  # each is asked for once
        else:
            if self.done == len(records):
                self.progress.caught_up()
            start, found = time.monotonic(), self._cached_tokens()
            with explain_memory(_LOWER_UNKEPT if self.journal is None else _LOWER_THE_NEED):
                record = {"round": kind, "key": list(key), **work()}
            if cached := self._cached_tokens() - found:
                record["cached_tokens"] = cached
            record["wall_s"] = round(time.monotonic() - start, 3)
            if self.journal is not None:
                self.journal.append(record)
            self.stages.setdefault(kind, Cost()).add(record)
        self.done += 1
        self.cost.add(record)
        self.progress.spent(self.cost.rollouts, self.cost.generated_tokens)
        return record

    def _cached_tokens(self) -> int:
        return 0 if self.score_cache is None else self.score_cache.found_tokens


def round_size(student: CausalModel, max_response_tokens: int) -> int:
    """Rollouts of one round: under a minute of work on a slow core, by the model's size alone (never by a clock)."""
    flops_per_rollout = 2.0 * student.parameters * max_response_tokens
    return int(min(1024, max(16, 60 * 1e10 / flops_per_rollout)))
