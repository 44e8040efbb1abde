"""Looks at the ranking while a run goes on: who leads, how surely, and whether that is enough to stop.

Questions are measured one group after another, in the order of the task, and a look comes after each group. When to
look is planned before the run begins (`alignment.looks`), and what each look needs accounts for all the others.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.alignment.choice import Ranking
from hydrometer.alignment.gate import Positions
from hydrometer.alignment.joint import decisive_continuations, rank_continuations
from hydrometer.alignment.looks import look_schedule, needed_probability
from hydrometer.alignment.outcomes import ScoredPaths
from hydrometer.alignment.separation import RECOMMEND_AT
from hydrometer.alignment.study import build_study
from hydrometer.alignment.wording import name_of, teacher_decided
from hydrometer.diagnosis.measurement import Look
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.diagnosis.tables import build_measured, build_token_scores, count_base
from hydrometer.runs.progress import Answer, Standing
from hydrometer.runs.rounds import Cost
from hydrometer.types import NO_TEACHER


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


def rank_so_far(instruments: Instruments, states: Sequence[QuestionState], needed: float) -> Ranking:
    """The ranking on these questions, as the summary of a run that ended here would have it."""
    measured = build_measured(instruments, states)
    studies = [
        build_study(name, measured.nodes, measured.candidates, measured.teacher_scores, instruments.directions)
        for name in decisive_continuations(instruments.continuations)
    ]
    config, base = instruments.config, count_base(states)
    scored, positions = None, None
    if instruments.ranks_by_outcomes:
        scored = ScoredPaths(measured.nodes, measured.candidates, measured.teacher_scores, base)
    else:
        tokens = build_token_scores(instruments, states)
        positions = Positions(measured.nodes, measured.candidates, tokens, base, instruments.unlisted)
    rankings = rank_continuations(studies, scored, positions, epsilon=config.epsilon, needed=needed, seed=config.seed)
    return next(iter(rankings.values()))


def build_look(ranking: Ranking, n_questions: int, cost: Cost, before: Sequence[Look]) -> Look:
    """What a look at this ranking says; `before` are the looks of the run so far."""
    leader = ranking.lines[0]
    teacher = NO_TEACHER if leader.arm is None else leader.arm.teacher
    return Look(
        questions=n_questions,
        generated_tokens=cost.generated_tokens,
        leader=name_of(leader),
        score=_known(leader.score),
        probability=_known(leader.p_within_epsilon),
        needed=ranking.needed,
        is_decided=ranking.recommended is not None,
        teacher=teacher,
        teacher_decided_after=_decided_after(teacher, n_questions, before) if ranking.is_teacher_decided else None,
        more_tokens=ranking.more_tokens(cost.generated_tokens),
        question_share=_known(ranking.question_share),
    )


def _decided_after(teacher: str, n_questions: int, before: Sequence[Look]) -> int:
    """Questions at the first of the looks without a break that found this teacher decided."""
    last = before[-1] if before else None
    if last is None or last.teacher != teacher or last.teacher_decided_after is None:
        return n_questions
    return last.teacher_decided_after


def build_answer(ranking: Ranking, n_questions: int, cost: Cost, decided_after: int | None = None) -> Answer:
    """The ranking for somebody who watches, and what it would take to be sure of it.

    Args:
        ranking: of the questions so far.
        n_questions: so many.
        cost: of the run so far.
        decided_after: questions after which a look found the teacher decided.
    """
    more = ranking.more_tokens(cost.generated_tokens)
    if ranking.recommended is not None:
        outlook = "decided"
    elif ranking.lines[0].is_withheld:
        outlook = f"{name_of(ranking.lines[0])} leads, but is not shown to gain anything"
    else:
        outlook = teacher_decided(decided_after) if ranking.is_teacher_decided else "not separated yet"
        if more is not None:
            minutes = more / max(cost.generated_tokens, 1) * cost.wall_s / 60.0
            outlook += f"; about {more:,} more tokens ({minutes:.0f} min) would do at these scores"
    lines = [
        Standing(
            name_of(line),
            _known(line.score),
            None if line.interval is None else (line.interval[0], line.interval[1]),
            _known(line.p_within_epsilon),
        )
        for line in ranking.lines
    ]
    return Answer(f"Pooled cosine on {n_questions} questions: {outlook}", tuple(lines))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
