"""Alignment of each objective direction with the ideal direction, node by node, and the table `alignment.parquet`.

    cosine = g.d / (|g| |d|),   signal = g.d / |d|,   advantage = sum_k q~_k S_k - sum_k w_k S_k

g and d live on the kept candidates, re-centred there (see `arrays`); q~ is the teacher renormalised over them. A cosine
is null where success rates are all equal or |d| < 1e-6; the signal is 0 there, because such a teacher moves nothing.
Departure from arXiv 2605.10889: directions carry the kept mass M, so that nodes can be summed.

    alignment = compute_alignment(nodes, candidates, teacher_scores, token_scores, objectives=["reverse_kl"])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from hydrometer.alignment.arrays import (
    MIN_KEPT,
    NODE_KEYS,
    KeptNodes,
    TeacherFields,
    centre,
    has_distinct_rates,
    ideal_direction,
    pack_fields,
    pack_nodes,
    spread,
    teachers_under,
)
from hydrometer.alignment.nodes import EQUAL_RATES

MIN_DIRECTION_NORM = 1e-6
"""Below this length an objective direction has no meaningful sign."""
NO_DIRECTION = "no_direction"
"""Reason of a null cosine: the objective does not move the student here."""
ALIGNMENT_KEYS = ("question_id", "rollout_id", "position", "teacher", "objective", "continuation")
ALIGNMENT_SCHEMA: dict[str, type[pl.DataType]] = {
    "question_id": pl.String,
    "rollout_id": pl.Int64,
    "position": pl.Int64,
    "teacher": pl.String,
    "objective": pl.String,
    "continuation": pl.String,
    "path_correct": pl.Boolean,
    **dict.fromkeys(
        (
            *("cosine", "signal", "inner_product", "ideal_norm", "direction_norm", "direction_share", "advantage"),
            *("reverse_kl_nats", "l2", "distribution_cosine", "depth_frac", "student_topk_mass", "teacher_topk_mass"),
        ),
        pl.Float64,
    ),
    "reason": pl.String,
}


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Node quantities of every teacher x objective. Where `is_present` is false the values mean nothing."""

    is_present: Bool[np.ndarray, "teacher objective node"]
    directions: Float[np.ndarray, "teacher objective node candidate"]
    inner_product: Float[np.ndarray, "teacher objective node"]
    direction_norm: Float[np.ndarray, "teacher objective node"]
    inner_noise: Float[np.ndarray, "teacher objective node"]
    """What the noise that a sampled field shares with the success rates adds to `inner_product` in expectation."""
    direction_noise: Float[np.ndarray, "teacher objective node"]
    """What the noise of a sampled field adds to the square of `direction_norm` in expectation."""
    cosine: Float[np.ndarray, "teacher objective node"]
    """NaN where undefined (ineligible node, or no direction)."""
    signal: Float[np.ndarray, "teacher objective node"]
    teacher_weights: Float[np.ndarray, "teacher node candidate"]
    """Teacher probability renormalised over the kept candidates."""
    advantage: Float[np.ndarray, "teacher node"]


def compute_arm_scores(kept: KeptNodes, scored: TeacherFields) -> ArmScores:
    """Inner products, norms, cosines, signals and advantages of every teacher x objective at every node."""
    ideal = ideal_direction(kept)
    directions = centre(kept.weights, kept.mass, scored.fields)
    known = np.isfinite(directions + scored.variances + scored.covariances).all(-1)
    is_present = scored.is_scored[:, None] & known
    directions = np.where(is_present[..., None], directions, 0.0)
    inner = (directions * ideal).sum(-1)
    norm = np.sqrt((directions**2).sum(-1))
    signal = np.divide(inner, norm, out=np.zeros_like(inner), where=norm >= MIN_DIRECTION_NORM)
    teacher_weights = _renormalised(scored)
    return ArmScores(
        is_present=is_present,
        directions=directions,
        inner_product=inner,
        direction_norm=norm,
        inner_noise=spread(kept, scored.covariances),
        direction_noise=spread(kept, scored.variances),
        cosine=cosine_of(kept, inner, ideal, norm, has_distinct_rates(kept)),
        signal=signal,
        teacher_weights=teacher_weights,
        advantage=((teacher_weights - kept.weights) * kept.rates).sum(-1),
    )


def cosine_of(
    kept: KeptNodes,
    inner: Float[np.ndarray, "*arms node"],
    ideal: Float[np.ndarray, "node candidate"],
    direction_norm: Float[np.ndarray, "*arms node"],
    is_eligible: Bool[np.ndarray, " node"],
) -> Float[np.ndarray, "*arms node"]:
    """g.d / (|g| |d|) within [-1, 1], exactly +-1 at two candidates; NaN where ineligible or without a direction."""
    length = np.sqrt((ideal**2).sum(-1)) * direction_norm
    is_defined = is_eligible & (direction_norm >= MIN_DIRECTION_NORM) & (length > 0.0)
    cosine = np.divide(inner, length, out=np.full_like(inner, np.nan), where=is_defined)
    is_pair = kept.is_candidate.sum(-1) == MIN_KEPT
    return np.where(is_pair, np.sign(cosine), np.clip(cosine, -1.0, 1.0))


def _renormalised(scored: TeacherFields) -> Float[np.ndarray, "teacher node candidate"]:
    logprobs = np.where(scored.is_scored[..., None], scored.logprobs, 0.0)
    shifted = np.exp(logprobs - logprobs.max(-1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(-1, keepdims=True)


def compute_alignment(
    nodes: pl.DataFrame,
    candidates: pl.DataFrame,
    teacher_scores: pl.DataFrame,
    token_scores: pl.DataFrame,
    *,
    objectives: Sequence[str],
) -> pl.DataFrame:
    """One row per node with at least two kept candidates x teacher x objective, sorted by key.

    Args:
        nodes: one row per path x position (all positions: the longest gives the path's length); uses path_correct.
        candidates: `candidates.parquet`.
        teacher_scores: `teacher_scores.parquet` with a column `field:NAME` per objective.
        token_scores: full-vocabulary quantities per path x position x teacher x objective.
        objectives: names, in the order of no consequence.
    """
    blocks = []
    for continuation in candidates["continuation"].unique().sort().to_list():
        kept = pack_nodes(candidates.filter(continuation=continuation))
        teachers = teachers_under(continuation, teacher_scores)
        packed = pack_fields(kept, teacher_scores, teachers, objectives)
        scores = compute_arm_scores(kept, packed)
        blocks += [
            _arm_rows(
                kept, scores, (t, o), token_scores.filter(teacher=teacher, objective=objective), packed.fields[t, o]
            ).with_columns(pl.lit(teacher).alias("teacher"), pl.lit(objective).alias("objective"))
            for t, teacher in enumerate(teachers)
            for o, objective in enumerate(objectives)
        ]
    if not blocks:
        return pl.DataFrame(schema=ALIGNMENT_SCHEMA)
    return _with_paths(pl.concat(blocks), nodes)


def _arm_rows(
    kept: KeptNodes,
    scores: ArmScores,
    arm: tuple[int, int],
    token_scores: pl.DataFrame,
    field: Float[np.ndarray, "node candidate"],
) -> pl.DataFrame:
    """The rows of one teacher x objective, with its full-vocabulary quantities."""
    norm = scores.direction_norm[arm]
    rows = kept.keys.join(token_scores, on=list(NODE_KEYS[:3]), how="left", maintain_order="left")
    return rows.with_columns(
        pl.Series("direction_share", _kept_share(kept, field, rows), dtype=pl.Float64, nan_to_null=True),
        pl.Series("cosine", scores.cosine[arm], dtype=pl.Float64, nan_to_null=True),
        pl.Series("signal", scores.signal[arm], dtype=pl.Float64),
        pl.Series("inner_product", scores.inner_product[arm], dtype=pl.Float64),
        pl.Series("ideal_norm", np.sqrt((ideal_direction(kept) ** 2).sum(-1)), dtype=pl.Float64),
        pl.Series("direction_norm", norm, dtype=pl.Float64),
        pl.Series("advantage", scores.advantage[arm[0]], dtype=pl.Float64),
        pl.when(pl.Series(~has_distinct_rates(kept), dtype=pl.Boolean))
        .then(pl.lit(EQUAL_RATES))
        .when(pl.Series(norm < MIN_DIRECTION_NORM, dtype=pl.Boolean))
        .then(pl.lit(NO_DIRECTION))
        .otherwise(None)
        .alias("reason"),
    ).filter(pl.Series(scores.is_present[arm], dtype=pl.Boolean))


def _kept_share(
    kept: KeptNodes, field: Float[np.ndarray, "node candidate"], rows: pl.DataFrame
) -> Float[np.ndarray, " node"]:
    """Share of sum over the vocabulary of d_j^2, d_j = p_j (f_j - mean f), that lies on kept candidates."""
    probabilities = kept.weights * kept.mass[:, None]
    mean = rows["field_mean"].cast(pl.Float64).to_numpy()
    square = ((probabilities * (field - mean[:, None])) ** 2).sum(-1)
    full = rows["full_norm_squared"].cast(pl.Float64).to_numpy()
    share = np.divide(square, full, out=np.full_like(square, np.nan), where=full > 0.0)
    return np.clip(share, 0.0, 1.0)


def _with_paths(rows: pl.DataFrame, nodes: pl.DataFrame) -> pl.DataFrame:
    """Join the outcome and the length of the path; schema and order of `alignment.parquet`."""
    lengths = nodes.group_by("question_id", "rollout_id").agg(
        (pl.col("position").max() + 1).alias("length"), pl.col("path_correct").first()
    )
    return (
        rows.join(lengths, on=["question_id", "rollout_id"], how="left")
        .with_columns((pl.col("position") / pl.col("length")).alias("depth_frac"))
        .select(pl.col(name).cast(dtype) for name, dtype in ALIGNMENT_SCHEMA.items())
        .sort(*ALIGNMENT_KEYS)
    )
