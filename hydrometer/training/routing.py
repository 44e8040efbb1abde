"""Which teachers score a rollout: all of them, the one that the data names, by outcome, or as a diagnosis chose."""

from collections.abc import Sequence
from pathlib import Path

from hydrometer.alignment.advice import choose_teachers
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.training.teaching import Route
from hydrometer.types import Question

_OUTCOMES = ("correct", "incorrect")


def build_route(text: str, names: Sequence[str], questions: Sequence[Question]) -> Route:
    """Read --route.

    Raises:
        UnknownNameError: a teacher that the run does not have.
        SpecError: neither a rule nor the folder of a diagnosis; a question without a teacher_id.
    """
    if text == "all":
        everyone = tuple(names)
        return lambda question, is_correct: everyone
    if text == "teacher_id":
        return _route_by_column(names, questions)
    if any(text.startswith(f"{outcome}=") for outcome in _OUTCOMES):
        return _route_by_outcome(text, names)
    if Path(text).is_dir():
        return _route_by_diagnosis(Path(text), names)
    raise SpecError(
        f"--route '{text}': expected all, teacher_id, correct=NAME,incorrect=NAME, or the folder of a diagnosis."
    )


def _route_by_column(names: Sequence[str], questions: Sequence[Question]) -> Route:
    for question in questions:
        if question.teacher_id is None:
            raise SpecError(f"--route teacher_id: question '{question.question_id}' has no teacher_id.")
        if question.teacher_id not in names:
            raise UnknownNameError(f"teacher_id (of question '{question.question_id}')", question.teacher_id, names)
    return lambda question, is_correct: (str(question.teacher_id),)


def _route_by_outcome(text: str, names: Sequence[str]) -> Route:
    chosen: dict[bool, tuple[str, ...]] = {True: (), False: ()}
    for part in text.split(","):
        outcome, _, name = part.partition("=")
        if outcome not in _OUTCOMES:
            raise SpecError(f"--route '{text}': '{part}' is neither correct=NAME nor incorrect=NAME.")
        if name not in names:
            raise UnknownNameError("teacher (of --route)", name, names)
        chosen[outcome == "correct"] = (name,)
    return lambda question, is_correct: chosen[is_correct]


def _route_by_diagnosis(folder: Path, names: Sequence[str]) -> Route:
    """The teacher chosen for a diagnosed question, and the one chosen overall for every other question."""
    overall, by_question = choose_teachers(folder)
    for name in {overall, *by_question.values()}:
        if name not in names:
            raise UnknownNameError(f"teacher (chosen in {folder})", name, names)
    return lambda question, is_correct: (by_question.get(question.question_id, overall),)
