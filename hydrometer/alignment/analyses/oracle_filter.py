"""What a filter that knew the cosine would keep, and the signal of what it keeps against that of all nodes.

    kept = nodes with cosine > 0,   mean signal = sum W signal / sum W,   gain = mean signal of kept - that of all
    naive: cosine and signal from the same rollouts
    split: cosine from one half of the rollouts, signal from the other, the two ways added up

The naive gain is positive where there is nothing but noise, because the same noise selects and is measured (so it is in
arXiv 2605.10889, appendix E.3). The split one is 0 there; it filters with half of the rollouts, so that it understates
what a filter with all of them would gain.
"""

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.arrays import NODE_KEYS, centre
from hydrometer.alignment.choice import Arm
from hydrometer.alignment.contributions import sum_nodes
from hydrometer.alignment.entries import describe, finite
from hydrometer.alignment.intervals import SHARE, jackknife, ratio
from hydrometer.alignment.scores import MIN_DIRECTION_NORM
from hydrometer.alignment.study import Study

WAYS = ("split", "naive")
NODES, SIGNAL, KEPT, KEPT_SIGNAL = range(4)
Sums = Float[np.ndarray, "*batch 4"]
Values = Float[np.ndarray, "*batch"]


def filter_by_cosine(study: Study, arm: Arm, positions: float) -> dict[str, Any]:
    """Shares kept and signals of one arm.

    Args:
        study: of one continuation.
        arm: which teacher and objective.
        positions: sum of W over all path positions that the arm's teacher was scored at (see `weigh_positions`).
    """
    entry: dict[str, Any] = {"teacher": arm.teacher, "objective": arm.objective, "continuation": study.continuation}
    for way in WAYS:
        sums = filter_sums(study, arm, way)
        total = sums.sum(0)
        measured = sums[:, NODES] > 0.0
        reason = "nothing_kept" if total[NODES] > 0.0 else "no_nodes"
        kept = jackknife(kept_share, sums, measured, limits=SHARE)
        kept_tokens = total[KEPT] / positions / (2.0 if way == "split" else 1.0) if positions > 0.0 else np.nan
        entry[way] = {
            "kept_share": describe(kept, reason="no_nodes"),
            "kept_share_of_all_tokens": finite(kept_tokens),
            "mean_signal": describe(jackknife(mean_signal, sums, measured), reason="no_nodes"),
            "mean_signal_kept": describe(jackknife(mean_signal_kept, sums, measured), reason=reason),
            "gain": describe(jackknife(gain, sums, measured), reason=reason),
        }
    return entry


def filter_sums(study: Study, arm: Arm, way: str) -> Float[np.ndarray, "question 4"]:
    """Per question: W, W signal, and both again over the kept nodes; for `split` the two ways added up."""
    if way == "naive":
        cosine, signal = study.scores.cosine[arm.place], study.scores.signal[arm.place]
        return _sums(study, arm, cosine, signal)
    kept = study.kept
    first = _sums(study, arm, study.half_a.cosine[arm.place], _signal(study, arm, kept.rates_b))
    return first + _sums(study, arm, study.half_b.cosine[arm.place], _signal(study, arm, kept.rates_a))


def _sums(
    study: Study, arm: Arm, cosine: Float[np.ndarray, " node"], signal: Float[np.ndarray, " node"]
) -> Float[np.ndarray, "question 4"]:
    """Nodes whose rates are unknown in one of the halves are left out, kept or not."""
    half_unknown = np.isnan(study.half_a.gap) | np.isnan(study.half_b.gap)
    counts = study.scores.is_present[arm.place] & ~half_unknown
    chosen = counts & (np.nan_to_num(cosine) > 0.0)
    known = np.nan_to_num(signal)
    return sum_nodes(study.labels, np.stack([counts, counts * known, chosen, chosen * known]).astype(np.float64))


def _signal(study: Study, arm: Arm, rates: Float[np.ndarray, "node candidate"]) -> Float[np.ndarray, " node"]:
    """g.d / |d| from the success rates of one half."""
    kept, norm = study.kept, study.scores.direction_norm[arm.place]
    inner = (study.scores.directions[arm.place] * centre(kept.weights, kept.mass, np.nan_to_num(rates))).sum(-1)
    return np.divide(inner, norm, out=np.zeros_like(inner), where=norm >= MIN_DIRECTION_NORM)


def kept_share(sums: Sums) -> Values:
    """Share of the measured nodes that the filter keeps."""
    return ratio(sums[..., KEPT], sums[..., NODES])


def mean_signal(sums: Sums) -> Values:
    """Over all measured nodes."""
    return ratio(sums[..., SIGNAL], sums[..., NODES])


def mean_signal_kept(sums: Sums) -> Values:
    """Over the nodes that the filter keeps."""
    return ratio(sums[..., KEPT_SIGNAL], sums[..., KEPT])


def gain(sums: Sums) -> Values:
    """What keeping only some nodes adds to the mean signal."""
    return np.asarray(mean_signal_kept(sums) - mean_signal(sums))


def weigh_positions(token_scores: pl.DataFrame, nodes: pl.DataFrame, continuation: str) -> dict[str, float]:
    """Per teacher: the sum of W over all path positions that it was scored at, measured or not."""
    weights = nodes.filter(continuation=continuation).select(
        *NODE_KEYS[:3], (pl.col("path_weight") * pl.col("node_weight")).alias("weight")
    )
    keys = list(NODE_KEYS[:3])
    scored = token_scores.select(*keys, "teacher").unique().join(weights, on=keys).sort("teacher", *keys)
    return {str(name): float(rows["weight"].sum()) for (name,), rows in scored.group_by("teacher", maintain_order=True)}
