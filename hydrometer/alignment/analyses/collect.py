"""The entry `analyses` of `summary.json` for one continuation, and the correlations beside it."""

from typing import Any, NamedTuple

import polars as pl

from hydrometer.alignment.analyses.agreement import advantage_against_cosine
from hydrometer.alignment.analyses.by_outcome import compare_outcomes
from hydrometer.alignment.analyses.estimator_noise import estimator_noise
from hydrometer.alignment.analyses.group_size import converge_with_group_size
from hydrometer.alignment.analyses.oracle_filter import filter_by_cosine, weigh_positions
from hydrometer.alignment.analyses.predictors import predict_alignment
from hydrometer.alignment.arrays import KeptNodes, has_distinct_rates
from hydrometer.alignment.study import Study


class RunTables(NamedTuple):
    """The tables of a run folder that the analyses read."""

    nodes: pl.DataFrame
    teacher_scores: pl.DataFrame
    token_scores: pl.DataFrame
    alignment: pl.DataFrame
    rollouts: pl.DataFrame | None
    """None: no analysis of group sizes."""


class Analyses(NamedTuple):
    """What one continuation adds to the summary."""

    correlations: list[dict[str, Any]]
    lists: dict[str, list[dict[str, Any]]]
    """By name; rows of several continuations stand in one list."""


def analyse(study: Study, tables: RunTables) -> Analyses:
    """Every analysis of one continuation (docs/analyses.md says what each row holds)."""
    per_arm, across = predict_alignment(tables.alignment, tables.nodes, study.arms, study.continuation)
    positions = weigh_positions(tables.token_scores, tables.nodes, study.continuation)
    return Analyses(
        per_arm,
        {
            "outcomes": compare_outcomes(study),
            "across_teachers": across,
            "oracle_filter": [filter_by_cosine(study, arm, positions.get(arm.teacher, 0.0)) for arm in study.arms],
            "advantage_against_cosine": [advantage_against_cosine(study, arm) for arm in study.arms],
            "estimator_noise": estimator_noise(study, tables.teacher_scores),
            "group_size": [
                {"continuation": study.continuation} | row for row in converge_with_group_size(study, tables.rollouts)
            ],
        },
    )


def two_candidate_share(kept: KeptNodes) -> float | None:
    """Share of eligible nodes with exactly two kept candidates, where a cosine is +1 or -1 by construction."""
    eligible = has_distinct_rates(kept)
    if not eligible.any():
        return None
    return float((kept.is_candidate[eligible].sum(-1) == 2).mean())
