"""What following each teacher would add up to, from all positions of the paths: who may be recommended at all.

    worth = m A - (1 - m) V,    A = sum W Q (sum_k q~_k S_k - sum_k w_k S_k) per path over measured nodes,
                                V = the student's success rate,
                                m = sum W |q - p| over measured nodes / the same over all positions

the score `path_advantage_with_harm` of `score_table`, and no matter of the objective. The pooled cosine compares
directions where the student has a choice; a teacher that is worse than the student there in sum, or that destroys what
the student is sure of, can have a cosine above 0 all the same (docs/predictive-validity.md says what came of those).

S is of whoever continues: under the student's continuation A is first-order, so that it can exceed what there is to
lose; under the teacher's own it is what was measured of its success rate minus the student's.

What counts as harm are tokens that the student is sure of, where there is nothing to measure. Where candidates were
not measured for lack of visits, or positions were left out of the analysis, the worth is not known and not given; nor
is that of a teacher who is looked at on the candidates of others.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from hydrometer.alignment.arrays import NODE_KEYS
from hydrometer.alignment.choice import Worth
from hydrometer.alignment.score_table import arm_sums, estimate_score, worth_parts
from hydrometer.alignment.study import Study

MOST_UNVISITED = 0.1
"""Share of |q - p| at nodes with two candidates but too few visits from which on the worth is not known."""


class Positions(NamedTuple):
    """Tables that say what happens at every position of the paths, measured or not."""

    nodes: pl.DataFrame
    candidates: pl.DataFrame
    token_scores: pl.DataFrame
    questions: pl.DataFrame
    """For the student's success rates."""
    unlisted: Collection[str] = ()
    """Teachers that had no say in what is a candidate: what they pull to may be missing, where it was not visited."""


def weigh_teachers(studies: Sequence[Study], positions: Positions, *, confidence: float) -> dict[str, Worth]:
    """The worth of every teacher in these continuations whose worth is known.

    `confidence` is that of its interval over questions.
    """
    found: dict[str, Worth] = {}
    for study in studies:
        unvisited = unvisited_shares(study, positions)
        arms = {arm.teacher: arm for arm in reversed(study.arms)}  # one arm of each: no objective enters
        for teacher in study.teachers:
            if teacher in positions.unlisted or unvisited.get(teacher, 1.0) > MOST_UNVISITED:
                continue
            sums = arm_sums(study, arms[teacher], positions.nodes, positions.token_scores, positions.questions)
            result = estimate_score("path_advantage_with_harm", sums, confidence=confidence)
            if np.isfinite(result.value):
                measured, harm = (float(part) for part in worth_parts(np.asarray(sums.sum(0))))
                found[teacher] = Worth(float(result.value), float(result.low), float(result.high), measured, harm)
    return found


def unvisited_shares(study: Study, positions: Positions) -> dict[str, float]:
    """Per teacher, the share of |q - p| that lies where candidates lack visits; 1 where positions were left out."""
    keys = list(NODE_KEYS[:3])
    nodes = positions.nodes.filter(continuation=study.continuation).sort(keys)
    if not nodes["node_weight"].gt(0.0).all():
        return dict.fromkeys(study.teachers, 1.0)
    choices = (
        positions.candidates.filter(pl.col("student_logprob").is_not_null(), continuation=study.continuation)
        .group_by(keys)
        .len()
        .filter(pl.col("len") >= 2)
        .join(study.kept.keys, on=keys, how="anti")
    )
    pushes = (
        positions.token_scores.unique([*keys, "teacher"])
        .join(nodes.select(*keys, (pl.col("path_weight") * pl.col("node_weight")).alias("weight")), on=keys)
        .join(choices.select(*keys, lacks=pl.lit(value=True)), on=keys, how="left")
        .sort(*keys, "teacher")
        .with_columns(push=pl.col("weight") * pl.col("l2"))
    )
    shares = pushes.group_by("teacher").agg(
        whole=pl.col("push").sum(), lacking=pl.col("push").filter(pl.col("lacks").is_not_null()).sum()
    )
    return {name: lacking / whole if whole > 0.0 else 0.0 for name, whole, lacking in shares.iter_rows()}
