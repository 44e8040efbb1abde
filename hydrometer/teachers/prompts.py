"""What one teacher is shown for one question: a frame filled with content, or the reason why it has to be skipped."""

from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import NamedTuple

from hydrometer.teachers.contexts import FRAMES, PEER, SUMMARISED, ContextSpec, Frame, apply_frame
from hydrometer.teachers.demonstrations import choose_demonstrations
from hydrometer.teachers.masking import mask_solution
from hydrometer.teachers.summaries import Summary
from hydrometer.types import Message, Question, Rollout

_DEMONSTRATIONS = ("correct", "wrong")
_MISSING = {
    "answer": "the question has no answer",
    "wrong_answer": "the question has no wrong answer",
    "solution": "the question has no reference solution",
    "correct": "no correct demonstration that is whole, says more than the answer and differs from the analysed ones",
    "wrong": "no wrong demonstration that is whole, says more than an answer and differs from the analysed ones",
    "rule": "no rule text",
}


class Instance(NamedTuple):
    """One of the contexts that could stand at a question; the weights of all of them sum to 1."""

    messages: tuple[Message, ...]
    assistant: str
    weight: float


class TeacherPrompt(NamedTuple):
    """What one teacher is shown for one question; `reason` says why where it has to be skipped."""

    messages: tuple[Message, ...]
    assistant: str = ""
    demo_rollout_ids: tuple[int, ...] = ()
    reason: str | None = None
    instances: tuple[Instance, ...] = ()
    """Of an aggregate: all that it is the mean of. `messages` and `assistant` are then those of the most probable."""


def needs_demonstrations(context: ContextSpec, frame: Frame) -> bool:
    """Whether rollouts of the student are shown (or condensed), or say what it takes for possible."""
    if context.aggregate:
        return True
    return context.name != PEER and any(slot in frame.slots for slot in _DEMONSTRATIONS)


def shown_demonstrations(
    frame: Frame, question: Question, demos: Sequence[Rollout], refuse: Sequence[Rollout]
) -> dict[str, Rollout] | None:
    """The rollouts that fill the frame's slots, by slot; None where one of them is missing."""
    chosen = choose_demonstrations(question, demos, refuse)._asdict()
    wanted = {slot: chosen[slot] for slot in _DEMONSTRATIONS if slot in frame.slots}
    found = {slot: rollout for slot, rollout in wanted.items() if rollout is not None}
    return found if len(found) == len(wanted) else None


def build_teacher_prompt(
    context: ContextSpec,
    question: Question,
    *,
    demos: Sequence[Rollout] = (),
    refuse: Sequence[Rollout] = (),
    blank: Callable[[str], str],
    frame: Frame | None = None,
    summaries: Mapping[int, Summary] | None = None,
) -> TeacherPrompt:
    """The teacher's messages for one question.

    Args:
        context: what to show.
        question: the student's messages and the reference material.
        demos: `demo` rollouts of this question by whoever the context shows (see `demonstrations`).
        refuse: the analysed rollouts; a demonstration with the text of one of them is never used.
        blank: replaces a content by filler of the same number of tokens (for `empty:`).
        frame: words of one's own in place of the context's.
        summaries: condensed demonstrations by rollout id (for `summary` and `correct_wrong_summary`).
    """
    frame = frame or FRAMES[context.name]
    chosen = choose_demonstrations(question, demos, refuse)._asdict()
    used = {slot: rollout for slot, rollout in chosen.items() if rollout is not None and slot in frame.slots}
    content: dict[str, str | None] = {
        "answer": question.answer,
        "wrong_answer": question.wrong_answer,
        "solution": mask_solution(question) if context.name == "masked_solution" else question.solution,
        "rule": context.argument,
    }
    for slot, rollout in used.items():
        content[slot] = rollout.text.strip()
        if context.name in SUMMARISED:
            summary = (summaries or {})[rollout.rollout_id]
            if summary.reason is not None:
                return TeacherPrompt((), reason=summary.reason)
            content[slot] = summary.text
    if missing := next((slot for slot in frame.slots if not content.get(slot)), None):
        return TeacherPrompt((), reason=_MISSING[missing])
    values = {slot: str(content[slot]) for slot in frame.slots}
    if context.empty:
        values = {slot: blank(text) for slot, text in values.items()}
    return TeacherPrompt(
        apply_frame(frame, question.prompt, values),
        Template(frame.assistant).substitute(values),
        tuple(rollout.rollout_id for rollout in used.values()),
    )
