"""A task whose responses are graded in the verifier's own process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hydrometer.tasks.isolation import IsolatedVerifier
from hydrometer.tasks.rows import Split
from hydrometer.tasks.wire import Pairs
from hydrometer.types import BatchTask, Grades, Question, Task


@runtime_checkable
class Questions(Protocol):
    """Questions in splits, under a name."""

    @property
    def name(self) -> str:
        """The spec that names the task."""
        ...

    def questions(self, split: Split) -> Sequence[Question]:
        """See `Task`."""
        ...


@dataclass(frozen=True, slots=True)
class IsolatedTask:
    """Questions, and a verifier that cannot harm the run (see `isolation`)."""

    source: Questions
    verifier: IsolatedVerifier

    @property
    def name(self) -> str:
        """The spec that names this task."""
        return self.source.name

    def questions(self, split: Split) -> Sequence[Question]:
        """See `Task`."""
        return self.source.questions(split)

    def verify(self, question: Question, response: str) -> Grades:
        """See `Task`."""
        return self.verifier.verify_all([(question, response)])[0]

    def verify_all(self, pairs: Pairs) -> list[Grades]:
        """See `BatchTask`."""
        return self.verifier.verify_all(pairs)


def verify_all(task: Task, pairs: Pairs) -> list[Grades]:
    """Grades of every (question, response), in one batch where the task can do that."""
    if isinstance(task, BatchTask):
        return task.verify_all(pairs)
    return [task.verify(question, response) for question, response in pairs]
