"""The nouns that the corridors share, as frozen values.

Axis legend for ragged nests (dense tensors carry theirs in the annotation):
    _Q questions, _R rollouts, _T tokens of a response, _N nodes, _K kept candidates of a node, _A arms.

A *node* is a prefix of an analysed rollout: `position` response tokens are fixed, the next one is open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

RolloutKind = Literal["base", "branch", "path", "demo"]
"""base: on-policy from the prompt. branch: forced to a node and token, then free. Only these two are counted.

path: on-policy, its nodes are analysed. demo: drawn to build contexts, never counted, never analysed.
"""
Grading = Literal["strict", "relaxed"]
"""strict: the answer in the form that the prompt asks for. relaxed: also an answer found elsewhere near the end."""
COUNTED_KINDS: tuple[RolloutKind, ...] = ("base", "branch")
STUDENT = "student"
"""`Rollout.model` of a rollout that the student continued."""
NO_TEACHER = "no teacher"
"""What stands in rankings for leaving the student as it is."""


class WeightedPrompt(NamedTuple):
    """One of several prompts whose next-token distributions are averaged; the weights of all of them sum to 1."""

    prompt_ids: tuple[int, ...]
    weight: float


class Message(NamedTuple):
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """One problem of a task with everything a prompt or a context can be built from."""

    question_id: str
    task: str
    prompt: tuple[Message, ...]
    """What the student sees, before the chat template."""
    answer: str
    solution: str | None = None
    """A worked reference solution."""
    wrong_answer: str | None = None
    """A well-formed answer that is not correct (the control context `wrong_answer`)."""
    teacher_id: str | None = None
    """Which teacher the data set names for this question, where it names one."""
    problem: str | None = None
    """The problem alone, without the words that the task puts around it; None where the data brought a whole prompt."""


class Score(NamedTuple):
    """What a verifier says of one response."""

    value: float
    """In [0, 1]."""
    correct: bool
    parsed: bool
    """False where no answer could be read from the response (it then counts as wrong)."""


class VerifierFailure(NamedTuple):
    """Why a verifier could not grade a response."""

    kind: Literal["raised", "time", "memory", "died"]
    detail: str
    """One line: the exception, the limit that was exceeded, or the signal that ended the process."""


class Grades(NamedTuple):
    """What a verifier says of one response under both gradings. Relaxed is correct wherever strict is."""

    strict: Score
    relaxed: Score
    failure: VerifierFailure | None = None
    """Where the verifier failed; both scores are then wrong and unparsed."""

    @classmethod
    def same(cls, score: Score) -> "Grades":
        """For verifiers that know only one grading."""
        return cls(score, score)

    def under(self, grading: Grading) -> Score:
        """The score that counts."""
        return self.strict if grading == "strict" else self.relaxed


@runtime_checkable
class Task(Protocol):
    """Questions in disjoint splits, and the verifier that scores responses to them."""

    @property
    def name(self) -> str:
        """The spec that names this task."""
        ...

    def questions(self, split: Literal["train", "diagnose", "test"]) -> Sequence[Question]:
        """All questions of a split, always in the same order."""
        ...

    def verify(self, question: Question, response: str) -> Grades:
        """Grade one decoded response."""
        ...


@runtime_checkable
class BatchTask(Task, Protocol):
    """A task whose verifier takes many responses at a time."""

    def verify_all(self, pairs: Sequence[tuple[Question, str]]) -> list[Grades]:
        """Grade every (question, decoded response), in order."""
        ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response with its outcome. `token_ids` include a sampled end-of-sequence token."""

    question_id: str
    rollout_id: int
    """Unique within its question."""
    kind: RolloutKind
    token_ids: tuple[int, ...]
    text: str
    score: float
    correct: bool
    truncated: bool
    """True where the length limit ended the response."""
    parent_rollout_id: int | None = None
    """For a branch: the path it was forced off."""
    forced_tokens: int = 0
    """For a branch: how many leading response tokens were given to it (0 otherwise)."""
    model: str = STUDENT
    """Who sampled the free tokens."""
