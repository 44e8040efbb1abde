"""Rollouts that are ordered, drawn, graded and written down: what a run's rounds of sampling hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hydrometer.models import CausalModel
from hydrometer.runs.rounds import Record
from hydrometer.sampling import Sampler, SampleRequest
from hydrometer.tasks import answer_part, opens_thought, verify_all
from hydrometer.teachers import TeacherPrompt
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
    WeightedPrompt,
)


class Asked(NamedTuple):
    """A prompt as a model is given it."""

    prompt_ids: tuple[int, ...]
    is_thinking: bool
    """Whether it has opened a thought."""
    mixture: tuple[WeightedPrompt, ...] = ()
    """Where the model writes as an aggregate: all prompts that it is the mean of, the first of them `prompt_ids`."""


def ask(model: CausalModel, messages: tuple[Message, ...], *, assistant: str = "") -> Asked:
    """The prompt of a model; `assistant` opens its turn."""
    text = model.prompt_text(messages, assistant=assistant)
    return Asked(model.render(messages, assistant=assistant), opens_thought(text))


def ask_teacher(model: CausalModel, prompt: TeacherPrompt) -> Asked:
    """What a teacher that is not skipped is given."""
    asked = ask(model, prompt.messages, assistant=prompt.assistant)
    return asked._replace(
        mixture=tuple(
            WeightedPrompt(model.render(one.messages, assistant=one.assistant), one.weight) for one in prompt.instances
        )
    )


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
    mixture: tuple[WeightedPrompt, ...] = ()
    """See `Asked`."""


def sample_orders(orders: Sequence[Order], sampler: Sampler, student: CausalModel, task: Task) -> Record:
    """Draw and verify the ordered rollouts; the record holds them in order, each under both gradings.

    The verifier sees what follows the thoughts of a thinking model; rollouts keep all of it.
    """
    requests = [SampleRequest(one.prompt_ids, one.prefix_ids, one.seed, mixture=one.mixture) for one in orders]
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
