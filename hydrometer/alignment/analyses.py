"""Looks behind the scores: what predicts alignment, how many nodes can only be +1 or -1, what a filter would keep.

    Spearman = Pearson correlation of mid-ranks over nodes, with a jackknife over questions at fixed ranks
    oracle filter = nodes whose cosine is positive by one half of the rollouts, its signal measured by the other half

Departure from arXiv 2605.10889: its oracle filter selects and measures with the same rollouts, which shows a gain even
where there is nothing but noise; here the two are separate and the two ways averaged.
"""

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from hydrometer.alignment.arrays import NODE_KEYS, KeptNodes, centre, success_gap
from hydrometer.alignment.choice import Arm
from hydrometer.alignment.intervals import jackknife
from hydrometer.alignment.scores import MIN_DIRECTION_NORM
from hydrometer.alignment.study import Study

PREDICTORS = ("reverse_kl_nats", "l2", "distribution_cosine", "student_entropy_nats", "depth_frac")


def correlate(alignment: pl.DataFrame, nodes: pl.DataFrame, arm: Arm, continuation: str) -> list[dict[str, Any]]:
    """Rank correlation of the cosine with each predictor over the nodes of one arm that have a cosine."""
    mine = (pl.col("teacher") == arm.teacher) & (pl.col("objective") == arm.objective)
    rows = alignment.filter(mine & (pl.col("continuation") == continuation) & pl.col("cosine").is_not_null())
    rows = rows.join(nodes.select(*NODE_KEYS, "student_entropy_nats"), on=list(NODE_KEYS), how="left")
    return [
        {"teacher": arm.teacher, "objective": arm.objective, "continuation": continuation, "predictor": name}
        | _spearman(rows.drop_nulls(name), name)
        for name in PREDICTORS
    ]


def _spearman(rows: pl.DataFrame, predictor: str) -> dict[str, Any]:
    first = stats.rankdata(rows["cosine"].to_numpy())
    second = stats.rankdata(rows[predictor].to_numpy())
    codes = rows["question_id"].rank("dense").to_numpy().astype(np.int64) - 1
    count = int(codes.max()) + 1 if len(codes) else 0
    sums = np.zeros((count, 6))
    # Ranks centred beforehand: their raw squares would cost six digits in the differences of sums.
    first, second = first - (len(codes) + 1) / 2.0, second - (len(codes) + 1) / 2.0
    columns = (np.ones_like(first), first, second, first**2, second**2, first * second)
    for index, column in enumerate(columns):
        np.add.at(sums[:, index], codes, column)
    result = jackknife(_pearson_of_sums, sums, np.ones(count, dtype=bool))
    value = float(result.value)
    interval = [float(result.low), float(result.high)] if np.isfinite(result.low) else None
    return {
        "value": value if np.isfinite(value) else None,
        "n_nodes": rows.height,
        "n_questions": count,
        "interval": interval,
        "reason": None if np.isfinite(value) else "no_variation",
    }


def _pearson_of_sums(sums: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch"]:
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    safe = np.maximum(count, 1.0)
    spread = (xx - x * x / safe) * (yy - y * y / safe)
    is_defined = spread > 1e-12
    covariance = np.asarray(xy - x * y / safe)
    return np.divide(
        covariance, np.sqrt(np.where(is_defined, spread, 1.0)), out=np.full_like(covariance, np.nan), where=is_defined
    )


def two_candidate_share(kept: KeptNodes) -> float | None:
    """Share of eligible nodes with exactly two kept candidates, where a cosine is +1 or -1 by construction."""
    eligible = success_gap(kept, kept.rates) > 0.0
    if not eligible.any():
        return None
    return float((kept.is_candidate[eligible].sum(-1) == 2).mean())


def oracle_filter(study: Study, arm: Arm) -> dict[str, Any]:
    """Share of nodes that a filter on cosine > 0 keeps, and the mean signal with and without it, cross-fitted."""
    kept, scores, place = study.kept, study.scores, arm.place
    norm = scores.direction_norm[place]
    weight = study.labels.weight * scores.is_present[place]
    ways = []
    for half, rates in ((study.half_a, kept.rates_b), (study.half_b, kept.rates_a)):
        is_known = np.isfinite(rates).all(-1) & np.isfinite(half.gap)
        inner = (scores.directions[place] * centre(kept.weights, kept.mass, np.nan_to_num(rates))).sum(-1)
        signal = np.divide(inner, norm, out=np.zeros_like(inner), where=norm >= MIN_DIRECTION_NORM)
        share = weight * is_known
        chosen = share * (np.nan_to_num(half.cosine[place]) > 0.0)
        ways.append([share.sum(), (share * signal).sum(), chosen.sum(), (chosen * signal).sum()])
    total, all_signal, chosen_total, chosen_signal = np.sum(ways, axis=0) if ways else np.zeros(4)
    return {
        "teacher": arm.teacher,
        "objective": arm.objective,
        "continuation": study.continuation,
        "kept_share": float(chosen_total / total) if total > 0 else None,
        "mean_signal": float(all_signal / total) if total > 0 else None,
        "mean_signal_kept": float(chosen_signal / chosen_total) if chosen_total > 0 else None,
        "reason": None if chosen_total > 0 else ("no_nodes" if not total > 0 else "nothing_kept"),
    }
