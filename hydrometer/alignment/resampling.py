"""95 % intervals for the questions at hand: resample the counted rollouts, keep questions, paths and nodes.

Each counted rollout gets a random sign e_r, one for all the candidates it was counted at; the success rates of the two
resampled worlds + and - move by

    S+-_k = S_k +- sum_r e_r (c_r - S_k) / sqrt(n_k (n_k - 1))           (c_r = 1 where the rollout was correct)

which are, to first order, the rates of two random halves of the rollouts with each candidate's visits split evenly. The
move has the unbiased variance S (1 - S) / (n - 1) and the right covariances between nodes that share rollouts.

Resampling adds the noise a second time. The |g|^2 of a resampled world is therefore corrected by twice the noise, and
intervals are centred on the estimate, not on the resampled worlds, whose cosines are attenuated twice. With
D = (T+ - T-) / 2, pooled cosine, advantage and signal get +- 1.96 sd(D) and cover their value at infinite visits on
these nodes. Mean and weighted cosine and fraction positive count signs; where noise turns them over, D shows only half
of their variance, so they get +- 1.96 sqrt(2) sd(D), the spread at half the visits, and cover their expectation at the
present number of visits (too wide where there is little noise). No success rate is drawn from a posterior.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import sparse, stats

from hydrometer.alignment.arrays import CANDIDATE_KEYS, KeptNodes, centre, success_gap
from hydrometer.alignment.intervals import CONFIDENCE
from hydrometer.alignment.metrics import METRICS, TERMS, corrected_ideal_square
from hydrometer.alignment.scores import MIN_DIRECTION_NORM
from hydrometer.alignment.study import Study

REPLICATES = 200
CHUNK = 50
"""Most pairs held at once."""
CHUNK_NUMBERS = 1 << 19
"""Most signs of rollouts, or rates of candidates, held at once: fewer pairs where there are many of either."""
Influence = sparse.csr_array


class Influences(NamedTuple):
    """Linear maps from rollout weights to success rates: all rollouts, first half, second half."""

    full: Influence
    half_a: Influence
    half_b: Influence


def rollout_influences(kept: KeptNodes, visit_log: pl.DataFrame) -> Influences:
    """Sparse [node x candidate, rollout] matrices from the visit log.

    Raises:
        ValueError: the log does not hold exactly the visits of the candidates.
    """
    rollouts = visit_log.select("question_id", "counted_rollout_id").unique().sort("question_id", "counted_rollout_id")
    rows = (
        visit_log.join(kept.slots, on=list(CANDIDATE_KEYS), how="inner")
        .join(rollouts.with_row_index("column"), on=["question_id", "counted_rollout_id"], how="left")
        .sort("node", "slot", "counted_rollout_id")
        .with_columns(pl.int_range(pl.len()).over("node", "slot").alias("order"))
    )
    width = kept.is_candidate.shape[1]
    cell = rows["node"].to_numpy() * width + rows["slot"].to_numpy()
    if not np.array_equal(np.bincount(cell, minlength=kept.is_candidate.size), kept.visits.ravel()):
        raise ValueError("the visit log does not hold exactly the visits of the kept candidates")
    column = rows["column"].to_numpy().astype(np.int64)
    correct = rows["correct"].to_numpy().astype(np.float64)
    shape = (kept.is_candidate.size, rollouts.height)
    is_first = rows["order"].to_numpy() % 2 == 0

    def influence(chosen: np.ndarray) -> Influence:
        at, outcome = cell[chosen], correct[chosen]
        count = np.bincount(at, minlength=shape[0])
        rate = np.bincount(at, outcome, minlength=shape[0]) / np.maximum(count, 1)
        scale = 1.0 / np.sqrt(np.maximum(count, 1) * np.maximum(count - 1.0, 1.0))
        return sparse.csr_array(((outcome - rate[at]) * scale[at], (at, column[chosen])), shape=shape)

    return Influences(influence(np.ones(len(cell), dtype=bool)), influence(is_first), influence(~is_first))


def these_questions_intervals(
    study: Study, visit_log: pl.DataFrame, rng: np.random.Generator, *, replicates: int = REPLICATES
) -> dict[str, Float[np.ndarray, "bound split teacher objective"]]:
    """Low and high end per metric from so many pairs of resampled worlds; NaN where the estimate is undefined."""
    influences = rollout_influences(study.kept, visit_log)
    n_rollouts = visit_log.select("question_id", "counted_rollout_id").n_unique()
    total = study.sums.sums.sum(0)
    drawn = []
    chunk = max(1, min(CHUNK, CHUNK_NUMBERS // max(n_rollouts, study.kept.is_candidate.size)))
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        signs = rng.choice((-1.0, 1.0), size=(n_rollouts, size))
        drawn.append([replicate_sums(study, influences, side * signs) for side in (1.0, -1.0)])
    plus, minus = (np.concatenate(side) for side in zip(*drawn, strict=True))
    quantile = stats.norm.ppf(0.5 + CONFIDENCE / 2)
    intervals = {}
    for name, metric in METRICS.items():
        value = metric.value(total)
        statistic = partial(_linear_pooled, total=total) if metric.is_ratio else metric.value
        half_gap = 0.5 * (statistic(plus) - statistic(minus))
        widening = math.sqrt(2.0) if metric.at_half_visits else 1.0
        reach = quantile * widening * np.sqrt((half_gap**2).mean(0))
        ends = np.stack([value - reach, value + reach])
        if metric.limits is not None:
            low, high = metric.limits
            ends = np.stack([np.maximum(ends[0], np.minimum(low, value)), np.minimum(ends[1], np.maximum(high, value))])
        if name != "mean_advantage":  # directions are held fixed here, which those of a sampled field are not
            ends = np.where(total[..., TERMS.index("direction_noise")] > 0.0, np.nan, ends)
        intervals[name] = ends
    return intervals


def replicate_sums(
    study: Study, influences: Influences, draws: Float[np.ndarray, "rollout replicate"]
) -> Float[np.ndarray, "replicate split teacher objective term"]:
    """The sums over nodes behind every metric, for each replicate (terms that no metric's value needs stay 0)."""
    kept, scores = study.kept, study.scores

    def resampled(rates: np.ndarray, influence: Influence) -> np.ndarray:
        moved = np.moveaxis((influence @ draws).reshape(*rates.shape, -1), -1, 0)
        return np.where(kept.is_candidate, np.nan_to_num(rates) + moved, 0.0)

    rates = resampled(kept.rates, influences.full)
    half_a = resampled(kept.rates_a, influences.half_a)
    half_b = resampled(kept.rates_b, influences.half_b)
    ideals = [centre(kept.weights, kept.mass, values) for values in (rates, half_a, half_b)]
    lengths = [np.sqrt((ideal**2).sum(-1)) for ideal in ideals]
    gaps = [success_gap(kept, values) for values in (half_a, half_b)]
    labels = study.labels
    splits = labels.weight * np.stack([labels.path_correct, ~labels.path_correct])
    out = np.zeros((draws.shape[1], 3, *scores.direction_norm.shape[:2], len(TERMS)))

    def put(term: str, place: tuple[int, int], values: np.ndarray, members: Float[np.ndarray, "split node"]) -> None:
        sums = np.broadcast_to(values, (len(out), values.shape[-1])) @ members.T
        out[:, 1:, *place, TERMS.index(term)] = sums
        out[:, 0, *place, TERMS.index(term)] = sums.sum(1)

    for place in np.ndindex(*scores.direction_norm.shape[:2]):
        norm = scores.direction_norm[place]
        moves = norm >= MIN_DIRECTION_NORM
        inverse = np.divide(1.0, norm, out=np.zeros_like(norm), where=moves)
        present = splits * scores.is_present[place]
        defined = present * np.isfinite(scores.cosine[place])
        inner, inner_a, inner_b = (np.einsum("rnc,nc->rn", ideal, scores.directions[place]) for ideal in ideals)
        cosines = [
            np.divide(product * inverse, length, out=np.zeros_like(product), where=length > 0.0)
            for product, length in zip((inner, inner_a, inner_b), lengths, strict=True)
        ]
        ones = np.ones((1, len(kept)))
        put("nodes", place, ones, present)
        put("advantage", place, ((scores.teacher_weights[place[0]] - kept.weights) * rates).sum(-1), present)
        put("signal", place, inner * inverse, present)
        put("inner", place, inner * moves, present)
        put("ideal_square", place, lengths[0] ** 2, present)
        put("defined", place, ones, defined)
        put("cosine", place, cosines[0], defined)
        put("positive", place, (inner > 0.0).astype(np.float64), defined)
        for name, own, other in (("gap_a", gaps[0], 2), ("gap_b", gaps[1], 1)):
            usable = gaps[other - 1] > 0.0
            twin = "b" if other == 2 else "a"
            put(name, place, own * usable, defined)
            put(f"{name}_cosine_{twin}", place, own * cosines[other], defined)
    return out


def _linear_pooled(
    sums: Float[np.ndarray, "replicate split teacher objective term"],
    total: Float[np.ndarray, "split teacher objective term"],
) -> Float[np.ndarray, "replicate split teacher objective"]:
    """Pooled cosine of the replicates to first order: N*/B - theta (G* - 2 noise) / (2 G), with B and G the estimates.

    A replicate's own corrected |g|^2 can be near 0 or negative where noise is large; the first order cannot blow up.
    """
    value = METRICS["pooled_cosine"].value(total)
    ideal = corrected_ideal_square(total)
    is_defined = np.isfinite(value)
    product = np.where(is_defined, ideal * total[..., TERMS.index("direction_square")], 1.0)
    inner = sums[..., TERMS.index("inner")] / np.sqrt(product)
    square = sums[..., TERMS.index("ideal_square")] - 2.0 * total[..., TERMS.index("noise")]
    relative = square / np.where(is_defined, ideal, 1.0)
    return np.where(is_defined, inner - 0.5 * value * relative, np.nan)
