"""What a diagnosis has found when it has measured all it will."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hydrometer.alignment.wording import leads, teacher_decided, where_to_spend
from hydrometer.diagnosis.given.states import Disagreement
from hydrometer.diagnosis.state import QuestionState
from hydrometer.types import VerifierFailure


class Look(NamedTuple):
    """What one look saw."""

    questions: int
    generated_tokens: int
    leader: str
    score: float | None
    probability: float | None
    """Of the leader, of being within epsilon of the best; None where there is none yet."""
    needed: float
    """Level of a recommendation at this look."""
    is_decided: bool
    teacher: str
    """The leader's."""
    teacher_decided_after: int | None
    """Questions of the first of the looks without a break, this one the last, at which this teacher was told apart from
    all others; None where it is not."""
    more_tokens: int | None
    """Expected to be enough at today's scores; None where that is unknown."""
    question_share: float | None
    """Of the variance of the leader's inner product, where it is ranked by outcomes: what lies between questions."""

    def describe(self) -> dict[str, Any]:
        """The entry of `looks` in summary.json."""
        return self._asdict()

    def __str__(self) -> str:
        place = f"After {self.questions} questions ({self.generated_tokens:,} tokens)"
        if self.probability is None:
            return f"{place}: no probability can be given yet."
        score = "" if self.score is None else f" with pooled cosine {self.score:+.3f}"
        verdict = f"{leads(self.leader)}{score}, near the best with probability {self.probability:.3f}"
        if self.is_decided:
            return f"{place}: {verdict}: decided ({self.needed:.3f} was needed)."
        price = "an unknown number of" if self.more_tokens is None else f"about {self.more_tokens:,}"
        need = f"{self.needed:.3f} is needed" if self.probability < self.needed else "not told apart from every other"
        spending = where_to_spend(math.nan if self.question_share is None else self.question_share)
        if self.teacher_decided_after is not None:
            verdict = f"{teacher_decided(self.teacher_decided_after)}; {verdict}"
        return f"{place}: {verdict} ({need}; {price} more tokens would do at today's scores).{spending}"


@dataclass(slots=True)
class Measurement:
    """All that sampling and scoring found."""

    states: list[QuestionState] = field(default_factory=list)
    piloted: int = 0
    """Questions that pilot rollouts looked at (0 without a pilot)."""
    left_out: list[str] = field(default_factory=list)
    """Ids of the questions whose pilot success rate was out of range."""
    not_needed: list[str] = field(default_factory=list)
    """Ids of the questions that the pilot found fit after enough others."""
    pilot_failures: list[tuple[str, VerifierFailure]] = field(default_factory=list)
    """Question id and reason of every pilot rollout that the verifier could not grade."""
    looks: list[Look] = field(default_factory=list)
    """At the ranking, while the run went on."""
    is_budget_spent: bool = False
    """Whether the budget ended before all that was planned was measured."""
    disagreement: Disagreement | None = None
    """Of the verifier with the rewards of given rollouts."""

    def sampler_gaps(self) -> np.ndarray:
        """|log p of the sampling pass - log p of the scoring pass|, in nats, at every token of every path."""
        gaps = [
            np.abs(state.scores[path_id].sampled_logprob - np.asarray(logprobs))
            for state in self.states
            for path_id, logprobs in state.sampler_logprobs.items()
        ]
        joined = np.concatenate(gaps) if gaps else np.zeros(0)
        return joined[np.isfinite(joined)]  # rounding can put a sampled token outside the scoring pass's nucleus
