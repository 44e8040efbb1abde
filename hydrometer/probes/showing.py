"""What teachers are shown of each question, and which questions they have to be skipped for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hydrometer.errors import SpecError
from hydrometer.probes.responses import Written
from hydrometer.runs.rollouts import Asked, ask
from hydrometer.runs.teachers import Teacher
from hydrometer.teachers import blank_text, build_teacher_prompt
from hydrometer.types import Question


class Shown(NamedTuple):
    """A teacher's prompts."""

    asked: dict[str, Asked]
    """By question, without those it is skipped for."""
    skipped: dict[str, str]
    """The reason by question."""

    def describe(self) -> dict[str, object]:
        """As it stands in `summary.json`."""
        return {"questions": len(self.asked), "skipped": len(self.skipped)}


def show(
    teacher: Teacher,
    questions: Sequence[Question],
    demos: Mapping[str, Sequence[Written]],
    analysed: Mapping[str, Sequence[Written]],
) -> Shown:
    """The teacher's prompt for every question.

    Args:
        teacher: who is shown something.
        questions: as the student sees them.
        demos: rollouts by question that may be shown.
        analysed: responses by question that are looked at; a demonstration is never one of them.

    Raises:
        SpecError: the context cannot be built for any question.
    """
    shown = Shown({}, {})
    for question in questions:
        made = build_teacher_prompt(
            teacher.context,
            question,
            demos=[one.rollout for one in demos.get(question.question_id, ())],
            refuse=[one.rollout for one in analysed.get(question.question_id, ())],
            blank=lambda text: blank_text(teacher.model, text),
            frame=teacher.frame,
        )
        if made.reason is not None:
            shown.skipped[question.question_id] = made.reason
        else:
            shown.asked[question.question_id] = ask(teacher.model, made.messages, assistant=made.assistant)
    refuse_empty(teacher, shown.asked, shown.skipped)
    return shown


def refuse_empty(teacher: Teacher, found: Mapping[str, object], skipped: Mapping[str, str]) -> None:
    """Refuse a teacher that nothing can be said of.

    Raises:
        SpecError: it is skipped for every question.
    """
    if not found:
        reason, count = Counter(skipped.values()).most_common(1)[0] if skipped else ("there is no question", 0)
        raise SpecError(
            f"Teacher '{teacher.name}' has to be skipped for every question, mostly ({count} of {len(skipped)}) "
            f"because: {reason}.\nChoose another context, or more --questions or --demos."
        )


def describe_skips(skipped: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One warning per teacher and reason."""
    return [
        f"Teacher '{name}' is skipped for {count} questions: {reason}."
        for name, reasons in skipped.items()
        for reason, count in sorted(Counter(reasons.values()).items())
    ]
