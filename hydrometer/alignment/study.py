"""One continuation of a diagnosis as arrays: kept nodes, arms, node terms and per-question sums, computed once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.arrays import KeptNodes, TeacherFields, pack_fields, pack_nodes, teachers_under
from hydrometer.alignment.choice import Arm, ObjectiveInfo, merge_arms
from hydrometer.alignment.contributions import (
    HalfScores,
    NodeLabels,
    QuestionSums,
    compute_half_scores,
    label_nodes,
    node_terms,
    sum_by_question,
)
from hydrometer.alignment.scores import ArmScores, compute_arm_scores


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that the parts of one continuation's summary are computed from."""

    continuation: str
    kept: KeptNodes
    fields: TeacherFields
    scores: ArmScores
    half_a: HalfScores
    half_b: HalfScores
    labels: NodeLabels
    terms: Float[np.ndarray, "term teacher objective node"]
    sums: QuestionSums
    teachers: tuple[str, ...]
    arms: tuple[Arm, ...]


def build_studies(
    nodes: pl.DataFrame,
    candidates: pl.DataFrame,
    teacher_scores: pl.DataFrame,
    objectives: Mapping[str, ObjectiveInfo],
) -> tuple[Study, ...]:
    """One study per continuation that has a candidate, by name."""
    names = candidates["continuation"].unique().sort().to_list()
    return tuple(build_study(name, nodes, candidates, teacher_scores, objectives) for name in names)


def build_study(
    continuation: str,
    nodes: pl.DataFrame,
    candidates: pl.DataFrame,
    teacher_scores: pl.DataFrame,
    objectives: Mapping[str, ObjectiveInfo],
) -> Study:
    """Pack the tables of one continuation and score every arm at every node; under a teacher only its own arms."""
    kept = pack_nodes(candidates.filter(pl.col("continuation") == continuation))
    teachers = teachers_under(continuation, teacher_scores)
    fields = pack_fields(kept, teacher_scores, teachers, list(objectives))
    scores = compute_arm_scores(kept, fields)
    half_a = compute_half_scores(kept, scores, kept.rates_a)
    half_b = compute_half_scores(kept, scores, kept.rates_b)
    labels = label_nodes(kept, nodes)
    terms = node_terms(kept, scores, half_a, half_b)
    return Study(
        continuation=continuation,
        kept=kept,
        fields=fields,
        scores=scores,
        half_a=half_a,
        half_b=half_b,
        labels=labels,
        terms=terms,
        sums=sum_by_question(labels, terms),
        teachers=teachers,
        arms=tuple(merge_arms(teachers, objectives)),
    )
