"""Does what was measured where a teacher continues add up to what it is better by? The performance difference.

For states that the student writes, p its distribution, q the teacher's, S success rates where the teacher continues:

    E sum over the nodes of a path of sum_v (q_v - p_v) S_v  =  J(teacher) - J(student)          (full vocabulary)

J are the success rates of both from their own prompts, known from their own rollouts. Of the sum, kept candidates K of
measured nodes are known; everything else lies within S in [0, 1]. With TV = sum_v max(q_v - p_v, 0) at a node:

    measured = sum_n W sum_K q_k (S_k - V),   V = sum_K w_k S_k      (what is not kept counts as worth V)
    low      = sum_n W [ sum_K (q_k - p_k) S_k - (TV - sum_K max(p_k - q_k, 0)) ]
    high     = sum_n W [ sum_K (q_k - p_k) S_k + (TV - sum_K max(q_k - p_k, 0)) ]

per path, W = path_weight x node_weight, averaged over the paths of all questions. J(teacher) - J(student) has to lie
within [low, high]; where it surely does not, visits, prompts or temperatures are not what they are taken for. The share
of it that was measured says how much of the teacher's worth the scores of this continuation can have seen.

Reference: Kakade and Langford (2002), lemma 6.1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.arrays import CANDIDATE_KEYS, NODE_KEYS
from hydrometer.alignment.entries import describe, finite, interval_of
from hydrometer.alignment.intervals import SHARE, Jackknife, jackknife, ratio
from hydrometer.types import STUDENT

NODES_WERE_SAMPLED = "only_some_nodes_were_measured"
"""Reason of missing bounds: what lies at positions that no sampled node stands for is not known."""
NOT_TOLD_FROM_ZERO = "difference_not_told_from_0"
"""Reason of a missing share."""
ALARM = 0.999
"""Confidence at which a difference outside of its bounds is called a fault: runs have many teachers."""
TERMS = ("paths", "measured", "low", "high", "teacher", "student")
_AT = {name: place for place, name in enumerate(TERMS)}
Sums = Float[np.ndarray, "*batch 6"]


class Worlds(NamedTuple):
    """The tables that the identity is computed from."""

    nodes: pl.DataFrame
    candidates: pl.DataFrame
    teacher_scores: pl.DataFrame
    token_scores: pl.DataFrame
    own: pl.DataFrame
    """question_id, model, rollouts, correct: base rollouts of the student and of every teacher that continues."""


def path_sums(worlds: Worlds, teacher: str) -> pl.DataFrame:
    """Per question where the teacher continues: paths, and their sums of measured, low and high (see above)."""
    said = worlds.teacher_scores.filter(teacher=teacher).select(*CANDIDATE_KEYS, "teacher_logprob")
    kept = worlds.candidates.filter(pl.col("kept"), continuation=teacher).join(
        said, on=list(CANDIDATE_KEYS), maintain_order="left"
    )
    p, q, s = pl.col("student_logprob").exp(), pl.col("teacher_logprob").exp(), pl.col("success_rate")
    by_node = kept.group_by(NODE_KEYS, maintain_order=True).agg(
        raw=((q - p) * s).sum(),
        centred=(q * (s - (p * s).sum() / p.sum())).sum(),
        gained=(q - p).clip(0.0).sum(),
        lost=(p - q).clip(0.0).sum(),
    )
    keys = list(NODE_KEYS[:3])
    variation = (
        worlds.token_scores.filter(teacher=teacher)
        .group_by(keys, maintain_order=True)
        .agg(pl.col("total_variation").first())
    )
    weight = pl.col("path_weight") * pl.col("node_weight")
    more = {name: (pl.col("total_variation") - pl.col(name).fill_null(0.0)).clip(0.0) for name in ("gained", "lost")}
    raw = pl.col("raw").fill_null(0.0)
    by_path = (
        worlds.nodes.filter(continuation=teacher)
        .join(variation, on=keys, maintain_order="left")
        .join(by_node, on=list(NODE_KEYS), how="left", maintain_order="left")
        .group_by("question_id", "rollout_id", maintain_order=True)
        .agg(
            paths=pl.col("path_weight").first(),
            measured=(weight * pl.col("centred").fill_null(0.0)).sum(),
            low=(weight * (raw - more["lost"])).sum(),
            high=(weight * (raw + more["gained"])).sum(),
        )
    )
    return (
        by_path.group_by("question_id", maintain_order=True)
        .agg(pl.col("paths", "measured", "low", "high").sum())
        .sort("question_id")
    )


def question_sums(worlds: Worlds, teacher: str) -> Float[np.ndarray, "question 6"]:
    """`TERMS` of every question where the teacher continues; success rates of both count once per path."""
    rates = {
        name: worlds.own.filter(model=model).select("question_id", (pl.col("correct") / pl.col("rollouts")).alias(name))
        for name, model in (("teacher", teacher), ("student", STUDENT))
    }
    rows = path_sums(worlds, teacher)
    for name, own in rates.items():
        rows = rows.join(own, on="question_id", how="inner", maintain_order="left")
        rows = rows.with_columns(pl.col(name) * pl.col("paths"))
    return rows.select(TERMS).cast(pl.Float64).to_numpy()


def mean_of(*names: str) -> Any:
    """Per path: the first term minus the others."""

    def statistic(sums: Sums) -> Float[np.ndarray, "*batch"]:
        top = sums[..., _AT[names[0]]] - sum(sums[..., _AT[name]] for name in names[1:])
        paths = sums[..., _AT["paths"]]
        return ratio(np.asarray(top), paths)

    return statistic


def _share(sums: Sums) -> Float[np.ndarray, "*batch"]:
    known = sums[..., _AT["teacher"]] - sums[..., _AT["student"]]
    return np.divide(sums[..., _AT["measured"]], known, out=np.full_like(known, np.nan), where=known != 0.0)


def check_identity(worlds: Worlds, teachers: Sequence[str]) -> list[dict[str, Any]]:
    """One entry of `values` in `summary.json` per teacher that continues and was not skipped everywhere."""
    entries = []
    for teacher in teachers:
        sums = question_sums(worlds, teacher)
        if len(sums):
            weights = worlds.nodes.filter(continuation=teacher)["node_weight"]
            entries.append(
                {"teacher": teacher, "continuation": teacher} | _entry(sums, is_whole=bool((weights > 0.0).all()))
            )
    return entries


def _entry(sums: Float[np.ndarray, "question 6"], *, is_whole: bool) -> dict[str, Any]:
    everywhere = np.ones(len(sums), dtype=bool)

    def estimate(*names: str, **options: Any) -> Jackknife:
        return jackknife(mean_of(*names), sums, everywhere, **options)

    difference = estimate("teacher", "student")
    is_told = bool(difference.low > 0.0 or difference.high < 0.0)
    share = jackknife(_share, sums, everywhere)
    bounds = [estimate(name) for name in ("low", "high")] if is_whole else None
    entry = {
        "teacher_value": describe(estimate("teacher", limits=SHARE)),
        "student_value": describe(estimate("student", limits=SHARE)),
        "difference": describe(difference),
        "measured": describe(estimate("measured")),
        "bounds": None if bounds is None else [finite(one.value) for one in bounds],
        "bounds_interval": None if bounds is None else interval_of(bounds[0].low, bounds[1].high),
        "bounds_reason": None if bounds is not None else NODES_WERE_SAMPLED,
        "measured_share": describe(share) if is_told else _unknown(NOT_TOLD_FROM_ZERO, len(sums)),
        "holds": None,
    }
    if is_whole:
        above = estimate("teacher", "student", "low", confidence=ALARM)
        below = estimate("teacher", "student", "high", confidence=ALARM)
        if np.isfinite(above.high) and np.isfinite(below.low):
            entry["holds"] = bool(above.high >= 0.0 >= below.low)
    return entry


def _unknown(reason: str, n_questions: int) -> dict[str, Any]:
    return {"value": None, "interval": None, "n_questions": n_questions, "reason": reason, "interval_reason": reason}


def explain_fault(entry: dict[str, Any]) -> str:
    """The warning of an identity that does not hold."""
    low, high = entry["bounds"]
    return (
        f"{entry['teacher']} is right {entry['difference']['value']:+.3f} more often than the student from its own "
        f"prompt, but what it makes of the student's prefixes allows only {low:+.3f} to {high:+.3f}: its success rates "
        "or probabilities are not those of the model that continued. Run hydrometer check on student and teacher."
    )
