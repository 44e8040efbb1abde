"""The entries of `arms` in `summary.json`: every metric of every split with its intervals, or the reason for none."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from hydrometer.alignment.arrays import NODE_KEYS, KeptNodes
from hydrometer.alignment.contributions import SPLITS, QuestionSums
from hydrometer.alignment.entries import NO_VALUE, finite, interval_of, why_no_interval
from hydrometer.alignment.intervals import CONFIDENCE, Jackknife, difference, jackknife
from hydrometer.alignment.metrics import METRICS, TERMS, Metric, corrected_direction_square, corrected_ideal_square
from hydrometer.alignment.reliability import split_half_reliability
from hydrometer.alignment.resampling import these_questions_intervals
from hydrometer.alignment.study import Study

MeasuredShares = Mapping[tuple[str, str], float | None]
NO_NODES = "no_nodes"
NO_ELIGIBLE_NODES = "no_eligible_nodes"
NO_DIFFERENCE_IN_A_HALF = "no_difference_in_one_half"
"""Reason of a missing weighted cosine: in one half of the rollouts all success rates of every node are equal."""
NO_DIRECTION = "no_direction"
NOISE = "noise"
NO_VISIT_LOG = "no_visit_log"
FIELD_IS_SAMPLED = "field_is_sampled"
"""Reason of a missing `these_questions` interval: it holds directions fixed, and this one comes from the rollouts."""


class MetricTable(NamedTuple):
    """One metric for every split, teacher and objective."""

    plain: Float[np.ndarray, "split teacher objective"]
    over_questions: Jackknife
    n_nodes: Int[np.ndarray, "split teacher objective"]
    at_half_visits: Float[np.ndarray, "split teacher objective"] | None


def measured_shares(token_scores: pl.DataFrame, kept: KeptNodes, nodes: pl.DataFrame) -> MeasuredShares:
    """Per teacher and objective: the share of |d|^2 over all path positions that lies on measured nodes.

    Where nodes were subsampled each counts `node_weight` times, so that the share is that of the nodes it stands for.
    """
    keys = list(NODE_KEYS[:3])
    measured = kept.keys.select(keys).unique().join(nodes.select(*keys, "node_weight").unique(keys), on=keys)
    rows = token_scores.join(measured, on=keys, how="left").sort(keys)
    shares: dict[tuple[str, str], float | None] = {}
    for teacher, objective in rows.select("teacher", "objective").unique().sort("teacher", "objective").iter_rows():
        mine = rows.filter(teacher=teacher, objective=objective)
        square = mine["full_norm_squared"].cast(pl.Float64).to_numpy()
        seen = float((square * mine["node_weight"].fill_null(0.0).to_numpy()).sum())
        shares[teacher, objective] = min(1.0, seen / float(square.sum())) if square.sum() > 0.0 else None
    return shares


def median_visits(kept: KeptNodes) -> float | None:
    """Median number of visits of a kept candidate."""
    return float(np.median(kept.visits[kept.is_candidate])) if kept.is_candidate.any() else None


def tabulate(metric: Metric, data: QuestionSums, confidence: float = CONFIDENCE) -> MetricTable:
    """A metric with its interval over questions, for every split and arm."""
    counts = data.counts[..., TERMS.index(metric.counted)]
    total = data.sums.sum(0)
    options = {"limits": metric.limits, "is_ratio": metric.is_ratio, "confidence": confidence}
    return MetricTable(
        plain=metric.plain(total),
        over_questions=jackknife(metric.value, data.sums, counts > 0, **options),
        n_nodes=np.rint(counts.sum(0)).astype(np.int64),
        at_half_visits=metric.at_half_visits(total) if metric.at_half_visits else None,
    )


def arm_entries(
    study: Study,
    shares: MeasuredShares,
    visit_log: pl.DataFrame | None,
    seed: int,
    *,
    confidence: float = CONFIDENCE,
) -> list[dict[str, Any]]:
    """One entry per arm, references included; `confidence` is that of the intervals of scores over questions."""
    resampled = None
    if visit_log is not None and len(study.kept):
        if "continuation" in visit_log.columns:
            visit_log = visit_log.filter(pl.col("continuation") == study.continuation)
        resampled = these_questions_intervals(study, visit_log, np.random.default_rng(seed))
    tables = {name: tabulate(metric, study.sums, confidence) for name, metric in METRICS.items()}
    reliability = split_half_reliability(study.labels, study.half_a, study.half_b)
    visits = median_visits(study.kept)
    total = study.sums.sums.sum(0)
    entries = []
    for arm in study.arms:
        scores: dict[str, dict[str, Any]] = {}
        for index, split in enumerate(SPLITS):
            place = (index, *arm.place)
            scores[split] = {}
            for name, table in tables.items():
                entry = _metric_entry(name, table, place, total[place], resampled)
                if name in reliability:
                    entry["median_visits"] = visits
                    entry["split_half_reliability"] = finite(reliability[name][place])
                scores[split][name] = entry
        entries.append(
            {
                "teacher": arm.teacher,
                "objective": arm.objective,
                "continuation": study.continuation,
                "aliases": list(arm.aliases),
                "reference": arm.reference,
                "measured_share": shares.get((arm.teacher, arm.objective)),
                "scores": scores,
                "correct_minus_incorrect": {n: _difference_entry(t, arm.place) for n, t in tables.items()},
            }
        )
    return entries


def _metric_entry(
    name: str,
    table: MetricTable,
    place: tuple[int, ...],
    sums: Float[np.ndarray, " term"],
    resampled: Mapping[str, np.ndarray] | None,
) -> dict[str, Any]:
    over = table.over_questions
    value = finite(over.value[place])
    n_questions = int(over.n_questions[place])
    interval = interval_of(over.low[place], over.high[place])
    these = interval_of(*resampled[name][(slice(None), *place)]) if resampled else None
    entry = {
        "value": value,
        "plain": finite(table.plain[place]),
        "n_nodes": int(table.n_nodes[place]),
        "n_questions": n_questions,
        "intervals": {"questions": interval, "these_questions": these},
        "reason": None if value is not None else _why_undefined(name, sums),
        "interval_reasons": {
            "questions": None if interval else why_no_interval(value, n_questions),
            "these_questions": None if these else _why_none_here(value, sums, resampled is not None),
        },
    }
    if table.at_half_visits is not None:
        entry["value_at_half_visits"] = finite(table.at_half_visits[place])
    return entry


def _why_none_here(value: float | None, sums: Float[np.ndarray, " term"], was_resampled: bool) -> str:
    if not was_resampled:
        return NO_VISIT_LOG
    return FIELD_IS_SAMPLED if value is not None and sums[TERMS.index("direction_noise")] > 0.0 else NO_VALUE


def _difference_entry(table: MetricTable, place: tuple[int, int]) -> dict[str, Any]:
    """Correct minus incorrect nodes over the same questions."""
    result = difference(*outcome_parts(table, place))
    value = finite(result.value)
    interval = interval_of(result.low, result.high)
    n_questions = int(result.n_questions)
    reason = None if interval else why_no_interval(value, n_questions)
    return {
        "value": value,
        "n_questions": n_questions,
        "intervals": {"questions": interval},
        "reason": None if value is not None else "undefined_in_one_split",
        "interval_reasons": {"questions": reason},
    }


def outcome_parts(table: MetricTable, place: tuple[int, int]) -> tuple[Jackknife, Jackknife]:
    """The metric over the nodes of correct and of incorrect paths."""
    over = table.over_questions
    correct, incorrect = (
        Jackknife(*(_pick(part, SPLITS.index(split), place) for part in over)) for split in ("correct", "incorrect")
    )
    return correct, incorrect


def _pick(part: np.ndarray, split: int, place: tuple[int, int]) -> np.ndarray:
    """One split and arm of an array with or without a leading question axis."""
    return np.asarray(part[(..., split, *place)])


def _why_undefined(name: str, sums: Float[np.ndarray, " term"]) -> str:
    if not sums[TERMS.index("nodes")] > 0.0:
        return NO_NODES
    if not sums[TERMS.index("direction_square")] > 0.0:
        return NO_DIRECTION
    if name == "pooled_cosine":
        both = corrected_ideal_square(sums) > 0.0 and corrected_direction_square(sums) > 0.0
        return NO_NODES if both else NOISE
    return NO_DIFFERENCE_IN_A_HALF if sums[TERMS.index("defined")] > 0.0 else NO_ELIGIBLE_NODES
