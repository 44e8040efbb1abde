"""Which contexts the student cannot tell apart at a question, and how probable each is.

The student sees the question x but not the context. Which contexts could stand there, as far as it can tell?

    shared rule     one text for all questions: one context (with further `rule` texts: one each, as likely)
    answer          the student's own belief about the answer: of its n rollouts of x that an answer can be read from, c
                    are right; the context shows the right answer with weight c / n, the wrong answer with 1 - c / n
    solution        the student's own belief about the solution: its n rollouts of x, each shown as if it were the
                    reference, with weight 1 / n
    demonstrations  what the design itself draws at random: each usable right (or right and wrong) rollout, 1 / n

Rollouts that would not be shown as demonstrations (cut off, the bare answer, equal to the analysed response) are not
used in the last two. Contexts that make the same prompt are one context with the sum of the weights.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from hydrometer.probes.responses import Written
from hydrometer.runs.rollouts import ask
from hydrometer.runs.teachers import Teacher
from hydrometer.teachers import ContextSpec, blank_text, build_teacher_prompt, usable_demonstrations
from hydrometer.types import Grading, Question, Rollout

FEW = 2
"""With fewer usable rollouts nothing can disagree, whatever the design."""


class Instance(NamedTuple):
    """One context that could stand at a question."""

    prompt_ids: tuple[int, ...]
    weight: float


class Instances(NamedTuple):
    """All of them; their weights sum to 1. `reason` says why where there is none."""

    found: tuple[Instance, ...]
    reason: str | None = None


class _Candidate(NamedTuple):
    context: ContextSpec
    question: Question
    demos: tuple[Rollout, ...]
    weight: float


def draws_from_student(teacher: Teacher) -> bool:
    """Whether the contexts of a design depend on what the student writes."""
    return not teacher.context.empty and bool(set(teacher.frame.slots) & {"answer", "solution", "correct", "wrong"})


def build_instances(
    teacher: Teacher,
    question: Question,
    belief: Sequence[Written],
    analysed: Sequence[Written],
    *,
    rules: Sequence[str],
    grading: Grading,
) -> Instances:
    """The contexts of one question.

    Args:
        teacher: with its context.
        question: as the student sees it.
        belief: rollouts of the student.
        analysed: its responses that are looked at.
        rules: further texts of a rule.
        grading: which grading counts.
    """
    refuse = [one.rollout for one in analysed]
    candidates = _candidates(teacher, question, belief, refuse, rules, grading)
    if isinstance(candidates, str):
        return Instances((), candidates)
    weights: dict[tuple[int, ...], float] = {}
    for one in candidates:
        made = build_teacher_prompt(
            one.context,
            one.question,
            demos=one.demos,
            refuse=refuse,
            blank=lambda text: blank_text(teacher.model, text),
            frame=teacher.frame,
        )
        if made.reason is not None:
            return Instances((), made.reason)
        prompt_ids = ask(teacher.model, made.messages, assistant=made.assistant).prompt_ids
        weights[prompt_ids] = weights.get(prompt_ids, 0.0) + one.weight
    return Instances(tuple(Instance(*item) for item in weights.items()))


def _candidates(
    teacher: Teacher,
    question: Question,
    belief: Sequence[Written],
    refuse: Sequence[Rollout],
    rules: Sequence[str],
    grading: Grading,
) -> list[_Candidate] | str:
    context, slots = teacher.context, set(teacher.frame.slots)
    if not draws_from_student(teacher):
        texts = [context.argument, *rules] if context.name == "rule" and not context.empty else [context.argument]
        return [_Candidate(context._replace(argument=text), question, (), 1.0 / len(texts)) for text in texts]
    if "answer" in slots:
        return _answers(context, question, belief, grading)
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


def _answers(
    context: ContextSpec, question: Question, belief: Sequence[Written], grading: Grading
) -> list[_Candidate] | str:
    """The right and the wrong answer, each as often as the student gives one of its kind."""
    read = [one.rollout.correct for one in belief if one.drawn.grades.under(grading).parsed]
    if len(read) < FEW:
        return f"an answer could be read from fewer than {FEW} of the student's rollouts"
    right = sum(read) / len(read)
    found = [_Candidate(context, question, (), right)] if right > 0.0 else []
    if right < 1.0:
        if question.wrong_answer is None:
            return "the question has no wrong answer"
        found.append(_Candidate(context, replace(question, answer=question.wrong_answer), (), 1.0 - right))
    return found
