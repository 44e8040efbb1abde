"""Looks at the ranking while a run goes on: who leads, how surely, and whether that is enough to stop.

Questions are measured one group after another, in the order of the task, and a look comes after each group. When to
look is planned before the run begins (`alignment.looks`), and what each look needs accounts for all the others.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.alignment.looks import look_schedule, needed_probability
from hydrometer.alignment.outcomes import ScoredPaths
from hydrometer.alignment.separation import RECOMMEND_AT
from hydrometer.alignment.study import build_study
from hydrometer.alignment.summary import rank_study
from hydrometer.alignment.wording import name_of
from hydrometer.diagnosis.measurement import Look
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.diagnosis.tables import build_measured, count_base
from hydrometer.runs.rounds import Cost
from hydrometer.types import STUDENT


class LookPlan(NamedTuple):
    """When to look."""

    questions: tuple[int, ...]
    """Measured questions at each look; the last is the end of the run."""
    needed: float
    """Level of each of them (see `alignment.separation`)."""


def plan_looks(instruments: Instruments, n_questions: int) -> LookPlan:
    """One look at the end, or several where the run is to stop when it has chosen."""
    if instruments.config.goal != "choose":
        return LookPlan((n_questions,), RECOMMEND_AT)
    looks = look_schedule(n_questions)
    return LookPlan(looks, needed_probability(looks, RECOMMEND_AT))


def look(instruments: Instruments, states: Sequence[QuestionState], cost: Cost, needed: float) -> Look:
    """Rank the arms on these questions, as the summary of a run that ended here would."""
    measured = build_measured(instruments, states)
    study = build_study(STUDENT, measured.nodes, measured.candidates, measured.teacher_scores, instruments.directions)
    config = instruments.config
    scored = None
    if instruments.ranks_by_outcomes:
        scored = ScoredPaths(measured.nodes, measured.candidates, measured.teacher_scores, count_base(states))
    ranking = rank_study(study, scored, epsilon=config.epsilon, needed=needed, seed=config.seed)
    leader = ranking.lines[0]
    return Look(
        questions=len(states),
        generated_tokens=cost.generated_tokens,
        leader=name_of(leader),
        score=leader.score if math.isfinite(leader.score) else None,
        probability=leader.p_within_epsilon if math.isfinite(leader.p_within_epsilon) else None,
        needed=needed,
        is_decided=ranking.recommended is not None,
        more_tokens=ranking.more_tokens(cost.generated_tokens),
    )
