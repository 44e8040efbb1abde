"""Questions whose responses were graded before they came here: there is no verifier to ask."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydrometer.errors import VerifierError
from hydrometer.tasks.rows import QuestionSet, Split
from hydrometer.types import Grades, Question


@dataclass(frozen=True, slots=True)
class GradedElsewhere:
    """A task without a verifier."""

    source: QuestionSet

    @property
    def name(self) -> str:
        """See `Task`."""
        return self.source.name

    def questions(self, split: Split) -> Sequence[Question]:
        """See `Task`."""
        return self.source.questions(split)

    def verify(self, question: Question, response: str) -> Grades:
        """See `Task`.

        Raises:
            VerifierError: always.
        """
        raise VerifierError(f"{self.name} has no verifier for new responses: name one with --verifier.")
