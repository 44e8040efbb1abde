"""Which contexts the student cannot tell apart at a question, and how probable each is.

The student sees the question x but not the context. Which contexts could stand there, as far as it can tell?

    shared rule     one text for all questions: one context (with further `rule` texts: one each, as likely)
    answer          the student's own belief about the answer: of its n rollouts of x that an answer can be read from, c
                    are right; the context shows the right answer with weight c / n, the wrong answer with 1 - c / n
    solution        the student's own belief about the solution: its n rollouts of x, each shown as if it were the
                    reference, with weight 1 / n
    demonstrations  what the design itself draws at random: each usable right (or right and wrong) rollout, 1 / n

Rollouts that would not be shown as demonstrations (cut off, the bare answer, equal to the analysed response) are not
used in the last two. Contexts that read the same are one context with the sum of the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from hydrometer.teachers.contexts import ContextSpec, Frame
from hydrometer.teachers.demonstrations import usable_demonstrations
from hydrometer.teachers.prompts import Instance, TeacherPrompt, build_teacher_prompt
from hydrometer.types import Message, Question, Rollout

FEW = 2
"""With fewer usable rollouts nothing can disagree, whatever the design."""


class Belief(NamedTuple):
    """A rollout of the student that says what it takes for possible."""

    rollout: Rollout
    parsed: bool
    """Whether an answer could be read from it."""


class _Candidate(NamedTuple):
    context: ContextSpec
    question: Question
    demos: tuple[Rollout, ...]
    weight: float


def draws_from_student(context: ContextSpec, frame: Frame) -> bool:
    """Whether the contexts of a design depend on what the student writes."""
    return not context.empty and bool(set(frame.slots) & {"answer", "solution", "correct", "wrong"})


def build_instances(
    context: ContextSpec,
    frame: Frame,
    question: Question,
    belief: Sequence[Belief],
    *,
    refuse: Sequence[Rollout] = (),
    rules: Sequence[str] = (),
    blank: Callable[[str], str],
) -> TeacherPrompt:
    """The contexts of one question, as `TeacherPrompt.instances`, the most probable first.

    Args:
        context: of the design.
        frame: the words around its content.
        question: as the student sees it.
        belief: rollouts of the student.
        refuse: its responses that are looked at.
        rules: further texts of a rule.
        blank: replaces a content by filler of the same number of tokens (for `empty:`).
    """
    candidates = _candidates(context, frame, question, belief, refuse, rules)
    if isinstance(candidates, str):
        return TeacherPrompt((), reason=candidates)
    weights: dict[tuple[tuple[Message, ...], str], float] = {}
    shown: dict[int, None] = {}
    for one in candidates:
        made = build_teacher_prompt(one.context, one.question, demos=one.demos, refuse=refuse, blank=blank, frame=frame)
        if made.reason is not None:
            return TeacherPrompt((), reason=made.reason)
        shown |= dict.fromkeys(made.demo_rollout_ids)
        text = (made.messages, made.assistant)
        weights[text] = weights.get(text, 0.0) + one.weight
    found = sorted((Instance(*text, weight) for text, weight in weights.items()), key=lambda one: -one.weight)
    return TeacherPrompt(found[0].messages, found[0].assistant, tuple(shown), instances=tuple(found))


def _candidates(
    context: ContextSpec,
    frame: Frame,
    question: Question,
    belief: Sequence[Belief],
    refuse: Sequence[Rollout],
    rules: Sequence[str],
) -> list[_Candidate] | str:
    slots = set(frame.slots)
    if not draws_from_student(context, frame):
        texts = [context.argument, *rules] if context.name == "rule" and not context.empty else [context.argument]
        return [_Candidate(context._replace(argument=text), question, (), 1.0 / len(texts)) for text in texts]
    if "answer" in slots:
        return _answers(context, question, belief)
    usable = usable_demonstrations(question, [one.rollout for one in belief], refuse)
    if "solution" in slots:
        shown = [(replace(question, solution=one.text.strip()), ()) for one in usable]
    else:
        right, wrong = ([one for one in usable if one.correct is wanted] for wanted in (True, False))
        sets = [right] * ("correct" in slots) + [wrong] * ("wrong" in slots)
        count = min(map(len, sets))
        shown = [(question, demos) for demos in zip(*(one[:count] for one in sets), strict=True)]
    if len(shown) < FEW:
        return f"fewer than {FEW} of the student's rollouts could be shown"
    return [_Candidate(context, asked, tuple(demos), 1.0 / len(shown)) for asked, demos in shown]


def _answers(context: ContextSpec, question: Question, belief: Sequence[Belief]) -> list[_Candidate] | str:
    """The right and the wrong answer, each as often as the student gives one of its kind."""
    read = [one.rollout.correct for one in belief if one.parsed]
    if len(read) < FEW:
        return f"an answer could be read from fewer than {FEW} of the student's rollouts"
    right = sum(read) / len(read)
    found = [_Candidate(context, question, (), right)] if right > 0.0 else []
    if right < 1.0:
        if question.wrong_answer is None:
            return "the question has no wrong answer"
        found.append(_Candidate(context, replace(question, answer=question.wrong_answer), (), 1.0 - right))
    return found
