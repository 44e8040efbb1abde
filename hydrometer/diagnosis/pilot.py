"""Which questions are measured: those of the task in order, or those whose pilot success rate lies in a range.

Pilot rollouts are drawn when a question is needed and not before, since a run that is to choose may stop after a few.
"""

from collections.abc import Sequence

from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.setup import Instruments
from hydrometer.errors import SpecError
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Order, ask, decode_grades, sample_orders
from hydrometer.runs.rounds import Record, Rounds, round_size
from hydrometer.sampling import rollout_seed
from hydrometer.types import Question, VerifierFailure

_PILOTED_PER_WANTED = 2
"""Questions that are piloted for each that is still wanted."""


class QuestionSource:
    """Owns how far the pilot has come, and what it left out."""

    def __init__(self, instruments: Instruments, rounds: Rounds, progress: Progress):
        self.instruments, self.rounds, self.progress = instruments, rounds, progress
        self.questions = instruments.questions()
        wanted = instruments.config.questions
        self.most = min(wanted, len(self.questions))
        """Measured questions at the most."""
        self.fit: list[Question] = []
        self.piloted = 0
        if not instruments.config.pilot:
            self.fit = list(self.questions)
            if len(self.questions) < wanted:
                progress.note(f"{instruments.task.name} has {len(self.questions)} questions to diagnose, not {wanted}.")

    def first(self, count: int, found: Measurement) -> Sequence[Question]:
        """The first `count` questions, or all that are fit where there are fewer.

        Raises:
            SpecError: the pilot finds none.
        """
        config = self.instruments.config
        if len(self.fit) < count and self.piloted < len(self.questions):
            self.progress.stage("pilot", count - len(self.fit))
        while len(self.fit) < count and self.piloted < len(self.questions):
            before = len(self.fit)
            self._pilot_some(count - before, found)
            self.progress.advance(min(len(self.fit), count) - before)
        if not self.fit:
            raise SpecError(
                f"None of the {self.piloted} questions of {self.instruments.task.name} has a pilot success rate "
                f"between {config.pilot_low:g} and {config.pilot_high:g}.\n"
                "Take an easier or harder task, widen --pilot-low/--pilot-high, or leave --pilot out."
            )
        if len(self.fit) < count:
            self.progress.note(
                f"Only {len(self.fit)} of the {self.piloted} questions have a pilot success rate between "
                f"{config.pilot_low:g} and {config.pilot_high:g}, not {count}."
            )
        return self.fit[:count]

    def tell(self, found: Measurement) -> None:
        """Note in what was found how far the pilot went."""
        if self.instruments.config.pilot:
            found.piloted = self.piloted
            found.not_needed = [question.question_id for question in self.fit[len(found.states) :]]

    def _pilot_some(self, wanted: int, found: Measurement) -> None:
        config = self.instruments.config
        size = max(1, round_size(self.instruments.student, config.max_response_tokens) // config.pilot)
        group = self.questions[self.piloted :][: min(size, _PILOTED_PER_WANTED * wanted)]
        record = self.rounds.run("pilot", [self.piloted, len(group)], lambda: _pilot(self.instruments, group))
        self.piloted += len(group)
        found.pilot_failures += [(question_id, VerifierFailure(*reason)) for question_id, reason in record["failures"]]
        for question, correct in zip(group, record["correct"], strict=True):
            if config.pilot_low <= correct / config.pilot <= config.pilot_high:
                self.fit.append(question)
            else:
                found.left_out.append(question.question_id)


def _pilot(instruments: Instruments, questions: Sequence[Question]) -> Record:
    count = instruments.config.pilot
    orders = [
        Order(
            question,
            asked.prompt_ids,
            number,
            "base",
            rollout_seed(instruments.config.seed, f"pilot\x1f{question.question_id}", number),
            is_thinking=asked.is_thinking,
        )
        for question in questions
        for asked in (ask(instruments.student, question.prompt),)
        for number in range(count)
    ]
    record = sample_orders(orders, instruments.sampler, instruments.student, instruments.task)
    graded = [decode_grades(*row[2:5]) for row in record.pop("rows")]
    correct = [grades.under(instruments.config.grading).correct for grades in graded]
    failures = [
        [order.question.question_id, list(grades.failure)]
        for order, grades in zip(orders, graded, strict=True)
        if grades.failure
    ]
    return record | {
        "correct": [sum(correct[i : i + count]) for i in range(0, len(correct), count)],
        "failures": failures,
    }
