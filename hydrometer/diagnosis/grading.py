"""What a run says of its verifier: answers that could not be read, gradings that differ, responses it failed on."""

from itertools import chain

from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.state import QuestionState
from hydrometer.runs.verdicts import describe_failures, explain_all_failed
from hydrometer.types import Grading, VerifierFailure

_UNPARSED_WORTH_SAYING = 0.1
_DIFFERENCE_WORTH_SAYING = 0.05
"""Shares of the base rollouts."""


def describe_grading(found: Measurement, grading: Grading) -> list[str]:
    """Warnings about how responses were graded; none where all is well."""
    base = [grades for state in found.states for grades in state.grades_of("base")]
    notes = []
    unparsed = sum(not grades.under(grading).parsed for grades in base)
    if unparsed > _UNPARSED_WORTH_SAYING * len(base):
        notes.append(f"No answer could be read from {unparsed} of {len(base)} base rollouts; they count as wrong.")
    strict, relaxed = (sum(grades.under(g).correct for grades in base) for g in ("strict", "relaxed"))
    differ = sum(grades.strict.correct != grades.relaxed.correct for grades in base)
    if differ > _DIFFERENCE_WORTH_SAYING * len(base):
        notes.append(
            f"Strict and relaxed grading differ on {differ} of {len(base)} base rollouts ({strict} and {relaxed} are "
            f"correct): the student often knows the answer and does not write it in the form that is asked for. This "
            f"run counted {grading} grading, so what it measured is {_MEANS[grading]}."
        )
    return notes + describe_failures(_failures(found))


_MEANS = {
    "strict": "the answer and its form together; --grading relaxed measures the answer alone",
    "relaxed": "the answer wherever it stands; --grading strict also asks for its form",
}


def _failures(found: Measurement) -> list[tuple[str, VerifierFailure]]:
    return found.pilot_failures + [
        (state.question.question_id, failure) for state in found.states for failure in _failures_at(state)
    ]


def _failures_at(state: QuestionState) -> list[VerifierFailure]:
    """Of the rollouts by id, then of continuations, then of those that saw a context."""
    own = [grades.failure for _, grades in sorted(state.grades.items())]
    own += chain(*(continued.rollouts.failures for continued in state.continued.values()))
    own += [drawn.grades.failure for drawn in state.context_rollouts]
    return [failure for failure in own if failure is not None]


def _count(state: QuestionState) -> int:
    continued = sum(len(one.rollouts) for one in state.continued.values())
    return len(state.grades) + continued + len(state.context_rollouts)


def explain_broken_verifier(found: Measurement) -> str | None:
    """The message where the verifier failed on every single response, else None."""
    failures = _failures(found)[len(found.pilot_failures) :]
    if not failures or len(failures) < sum(map(_count, found.states)):
        return None
    return explain_all_failed(failures)
