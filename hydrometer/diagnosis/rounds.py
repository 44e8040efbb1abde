"""The journalled part of a diagnosis: every piece of paid work is one round, computed once and replayed afterwards.

`Rounds.run(kind, key, work)` returns what the journal holds for the next round, or does the work and appends it. The
corridor asks for the same rounds in the same order whether it runs for the first time or resumes, so that resuming is
running again with answers that are already there.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hydrometer.artifacts import Journal
from hydrometer.errors import RunFolderError
from hydrometer.models import CausalModel
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.progress import Progress
from hydrometer.sampling import Sampler, SampleRequest
from hydrometer.tasks import answer_part, opens_thought, verify_all
from hydrometer.types import (
    STUDENT,
    Grades,
    Grading,
    Message,
    Question,
    Rollout,
    RolloutKind,
    Score,
    Task,
    VerifierFailure,
)

Record = dict[str, Any]
_LOWER_THE_NEED = (
    "Lower --batch-size (fewer rollouts at a time) and go on with --resume; nothing that was paid for is lost. "
    "If that is not enough, start again with a lower --max-response-tokens or --dtype bfloat16."
)


@dataclass(slots=True)
class Cost:
    """What has been paid for, also by earlier sittings of the same run."""

    rollouts: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    wall_s: float = 0.0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one round."""
        self.rollouts += record.get("n_rollouts", 0)
        self.generated_tokens += record.get("generated_tokens", 0)
        self.scored_tokens += record.get("scored_tokens", 0)
        self.wall_s += record["wall_s"]


@dataclass(slots=True)
class Rounds:
    """The journal and how far into it the run is."""

    journal: Journal
    progress: Progress
    cost: Cost = field(default_factory=Cost)
    done: int = 0

    def run(self, kind: str, key: Sequence[Any], work: Callable[[], Record]) -> Record:
        """The record of the next round.

        Raises:
            RunFolderError: the journal holds another round here (it was written by another version or input).
            MemoryLimitError: the work did not fit.
            DiskError: the record could not be written; the round will be redone.
        """
        if self.done < len(self.journal.records):
            record = self.journal.records[self.done]
            if record.get("round") != kind or record.get("key") != list(key):
                raise RunFolderError(
                    f"{self.journal.path}: round {self.done} is {record.get('round')} {record.get('key')}, but this "
                    f"run would now do {kind} {list(key)}. The code or the data changed; start again in a new folder."
                )
        else:
            if self.done == len(self.journal.records):
                self.progress.caught_up()
            start = time.monotonic()
            with explain_memory(_LOWER_THE_NEED):
                record = {"round": kind, "key": list(key), **work()}
            record["wall_s"] = round(time.monotonic() - start, 3)
            self.journal.append(record)
        self.done += 1
        self.cost.add(record)
        self.progress.spent(self.cost.rollouts, self.cost.generated_tokens)
        return record


class Asked(NamedTuple):
    """A prompt as a model is given it."""

    prompt_ids: tuple[int, ...]
    is_thinking: bool
    """Whether it has opened a thought."""


def ask(model: CausalModel, messages: tuple[Message, ...], *, assistant: str = "") -> Asked:
    """The prompt of a model; `assistant` opens its turn."""
    text = model.prompt_text(messages, assistant=assistant)
    return Asked(model.render(messages, assistant=assistant), opens_thought(text))


@dataclass(frozen=True, slots=True)
class Order:
    """A rollout to be sampled."""

    question: Question
    prompt_ids: tuple[int, ...]
    rollout_id: int
    kind: RolloutKind
    seed: int
    prefix_ids: tuple[int, ...] = ()
    parent_rollout_id: int | None = None
    model: str = STUDENT
    """Who is to sample it."""
    is_thinking: bool = False
    """Whether the prompt has opened a thought."""


def sample_orders(orders: Sequence[Order], sampler: Sampler, student: CausalModel, task: Task) -> Record:
    """Draw and verify the ordered rollouts; the record holds them in order, each under both gradings.

    The verifier sees what follows the thoughts of a thinking model; rollouts keep all of it.
    """
    requests = [SampleRequest(order.prompt_ids, order.prefix_ids, order.seed) for order in orders]
    drawn = sampler.sample(requests)
    texts = [
        answer_part(student.decode((*order.prefix_ids, *d.token_ids)), is_open=order.is_thinking)
        for order, d in zip(orders, drawn, strict=True)
    ]
    graded = verify_all(task, [(order.question, text) for order, text in zip(orders, texts, strict=True)])
    rows = [
        [list(d.token_ids), d.ended, *encode_grades(grades), list(d.logprobs) if order.kind == "path" else None]
        for order, d, grades in zip(orders, drawn, graded, strict=True)
    ]
    generated = sum(len(d.token_ids) for d in drawn)
    return {"n_rollouts": len(orders), "generated_tokens": generated, "rows": rows}


def encode_grades(grades: Grades) -> tuple[list[Any], list[Any], list[Any] | None]:
    """Strict score, relaxed score and failure as a journal holds them."""
    return list(grades.strict), list(grades.relaxed), None if grades.failure is None else list(grades.failure)


def decode_grades(strict: list[Any], relaxed: list[Any], failure: list[Any] | None) -> Grades:
    """The inverse of `encode_grades`."""
    return Grades(Score(*strict), Score(*relaxed), None if failure is None else VerifierFailure(*failure))


class Drawn(NamedTuple):
    """A sampled and verified rollout."""

    rollout: Rollout
    grades: Grades
    sampler_logprobs: tuple[float, ...] | None
    """Of a path: what the sampling pass said of its tokens."""


def read_rollouts(orders: Sequence[Order], record: Record, student: CausalModel, grading: Grading) -> list[Drawn]:
    """The rollouts of a `sample_orders` record; score and outcome are those of one grading."""
    found = []
    for order, (token_ids, ended, *encoded, logprobs) in zip(orders, record["rows"], strict=True):
        ids = (*order.prefix_ids, *token_ids)
        grades = decode_grades(*encoded)
        rollout = Rollout(
            question_id=order.question.question_id,
            rollout_id=order.rollout_id,
            kind=order.kind,
            token_ids=ids,
            text=student.decode(ids),
            score=grades.under(grading).value,
            correct=grades.under(grading).correct,
            truncated=not ended,
            parent_rollout_id=order.parent_rollout_id,
            forced_tokens=len(order.prefix_ids),
            model=order.model,
        )
        found.append(Drawn(rollout, grades, None if logprobs is None else tuple(logprobs)))
    return found


def round_size(student: CausalModel, max_response_tokens: int) -> int:
    """Rollouts of one round: under a minute of work on a slow core, by the model's size alone (never by a clock)."""
    flops_per_rollout = 2.0 * student.parameters * max_response_tokens
    return int(min(1024, max(16, 60 * 1e10 / flops_per_rollout)))
