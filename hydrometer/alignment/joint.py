"""One ranking per way of continuing: one of all teachers, each arm where its own teacher continues, and the student's.

Where teachers were asked to continue their ranking comes first and is the one that recommends: of both it is the one
that foretold training better (docs/predictive-validity.md).

Success rates under two teachers are two ideal directions. What the joint ranking compares is how well each objective
follows the ideal direction of its own teacher's continuations, on the questions that all teachers have in common;
every arm has its own |g|^2, and `no teacher` is 0 in each of them.
"""

from collections.abc import Sequence

import numpy as np

from hydrometer.alignment.choice import Evidence, Ranking, gather_evidence, rank_arms
from hydrometer.alignment.gate import Positions, weigh_teachers
from hydrometer.alignment.metrics import TERMS
from hydrometer.alignment.outcomes import ScoredPaths, outcome_evidence
from hydrometer.alignment.study import Study
from hydrometer.types import STUDENT

TEACHERS = "teacher"
"""Stands for all teachers: the continuation of `no teacher` in their ranking."""


def rank_continuations(
    studies: Sequence[Study],
    scored: ScoredPaths | None,
    positions: Positions | None,
    *,
    epsilon: float,
    needed: float,
    seed: int,
) -> dict[str, Ranking]:
    """The ranking of all teachers under `TEACHERS` first where there is one, and the student's.

    Args:
        studies: one per continuation that has a kept candidate.
        scored: rank the student's arms by the outcomes of these paths instead of by the measured nodes.
        positions: say what each teacher is worth; None where too few nodes were measured to know.
        epsilon: arms this close to the best are as good as it.
        needed: level of a recommendation.
        seed: of the draws behind p_within_epsilon.
    """
    by_teachers = [study for study in studies if study.continuation != STUDENT]
    by_student = [study for study in studies if study.continuation == STUDENT]
    evidence: dict[str, tuple[Evidence, Sequence[Study]]] = {}
    if by_teachers:
        evidence[TEACHERS] = join_evidence([_measured(study) for study in by_teachers]), by_teachers
    for study in by_student:
        evidence[STUDENT] = _measured(study) if scored is None else outcome_evidence(study, scored), by_student
    return {
        name: rank_arms(
            one,
            epsilon=epsilon,
            rng=np.random.default_rng(seed),
            needed=needed,
            worths=None if positions is None else weigh_teachers(weighed, positions, confidence=needed),
        )
        for name, (one, weighed) in evidence.items()
    }


def continuation_of(teacher: str | None, ranking: str) -> str:
    """Who continues in a line of a ranking: its own teacher where teachers do (`no teacher` has none)."""
    return STUDENT if ranking == STUDENT else teacher or TEACHERS


def decisive_continuations(continuations: Sequence[str]) -> tuple[str, ...]:
    """Those whose ranking recommends: all teachers that continue, else the student."""
    return tuple(name for name in continuations if name != STUDENT) or (STUDENT,)


def _measured(study: Study) -> Evidence:
    return gather_evidence(study.arms, study.scores, study.terms, study.labels)


def join_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Arms beside each other over the questions that all parts with a ranked arm have."""
    used = [part for part in parts if part.ranked]
    everywhere = {name for part in used for name in part.questions}
    shared = sorted(everywhere.intersection(*(part.questions for part in used)))
    chosen = [part.sums[[part.questions.index(name) for name in shared]] for part in used]
    empty = np.zeros((len(shared), 0, len(TERMS)))
    return Evidence(
        ranked=tuple(arm for part in used for arm in part.ranked),
        sums=np.concatenate([empty, *chosen], axis=1),
        questions=tuple(shared),
        n_nodes=sum(part.n_nodes for part in used),
        lost_nodes=sum(part.lost_nodes for part in used),
        lost_questions=len(everywhere) - len(shared),
        unranked=tuple(arm for part in parts for arm in part.unranked),
        is_length_apart=False,
    )
