"""Tables to padded arrays: the kept candidates of every node with at least two of them, and each teacher's field there.

    w_k = p_k / M,   M = sum of p over the kept candidates,   g_j = M w_j (S_j - sum_k w_k S_k),
    d_j = M w_j (f_j - sum_k w_k f_k)

Both directions have the same form, `centre`. A padded slot has w = 0 and therefore contributes nothing to any sum. The
paper (arXiv 2605.10889) does not scale by M; here M keeps nodes comparable when their kept sets cover different shares.

    kept = pack_nodes(candidates); fields = pack_fields(kept, teacher_scores, teachers, objectives)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from hydrometer.types import STUDENT

NODE_KEYS = ("question_id", "rollout_id", "position", "continuation")
CANDIDATE_KEYS = ("question_id", "rollout_id", "position", "token_id")
FIELD_PREFIX = "field:"
SAMPLED_FIELDS = frozenset({"minillm"})
"""Objectives whose field is estimated from the counted rollouts, with a noise of its own."""
MIN_KEPT = 2
"""Below two kept candidates both directions are zero by construction."""


@dataclass(frozen=True, slots=True)
class KeptNodes:
    """Nodes with at least two kept candidates, in key order, candidates in the order of their token ids."""

    keys: pl.DataFrame
    """One row per node, columns `NODE_KEYS`."""
    slots: pl.DataFrame
    """One row per kept candidate: the keys, `node` and `slot` (its place in the arrays)."""
    is_candidate: Bool[np.ndarray, "node candidate"]
    weights: Float[np.ndarray, "node candidate"]
    """Student probability renormalised over the kept candidates, 0 in padding."""
    mass: Float[np.ndarray, " node"]
    visits: Float[np.ndarray, "node candidate"]
    rates: Float[np.ndarray, "node candidate"]
    rates_a: Float[np.ndarray, "node candidate"]
    """From the first half of the rollouts; NaN where that half is empty."""
    rates_b: Float[np.ndarray, "node candidate"]
    variances: Float[np.ndarray, "node candidate"]
    """Unbiased sampling variance of `rates`."""

    def __len__(self) -> int:
        return self.keys.height


@dataclass(frozen=True, slots=True)
class TeacherFields:
    """What every teacher says at the kept candidates, aligned with a `KeptNodes`."""

    teachers: tuple[str, ...]
    objectives: tuple[str, ...]
    is_scored: Bool[np.ndarray, "teacher node"]
    """True where the teacher has a log-probability for every kept candidate of the node."""
    logprobs: Float[np.ndarray, "teacher node candidate"]
    fields: Float[np.ndarray, "teacher objective node candidate"]
    """Ascent field f over the full vocabulary, NaN where unknown, 0 in padding."""
    variances: Float[np.ndarray, "teacher objective node candidate"]
    """Unbiased sampling variance of a field that is itself estimated (`minillm`), 0 for the others."""
    covariances: Float[np.ndarray, "teacher objective node candidate"]
    """Unbiased sampling covariance of such a field with the success rate."""


def centre(
    weights: Float[np.ndarray, "*batch candidate"],
    mass: Float[np.ndarray, "*batch"],
    field: Float[np.ndarray, "*more candidate"],
) -> Float[np.ndarray, "*more candidate"]:
    """M w_j (f_j - sum_k w_k f_k): a field over kept candidates as a direction in the logits (ascent).

    A constant is taken off first, so that a field without differences gives exact zeros.
    """
    field = field - field[..., :1]
    mean = (weights * field).sum(-1, keepdims=True)
    return mass[..., None] * weights * (field - mean)


def ideal_direction(kept: KeptNodes) -> Float[np.ndarray, "node candidate"]:
    """g, from all counted rollouts."""
    return centre(kept.weights, kept.mass, kept.rates)


def node_noise(kept: KeptNodes) -> Float[np.ndarray, " node"]:
    """What sampling noise adds to |g|^2 in expectation, estimated without bias."""
    return spread(kept, kept.variances)


def spread(kept: KeptNodes, variances: Float[np.ndarray, "*arms node candidate"]) -> Float[np.ndarray, "*arms node"]:
    """What noise of a field adds to the square of its direction in expectation (with covariances: to a product).

    M^2 sum_k w_k^2 (1 - 2 w_k + sum_j w_j^2) Var(f_k): the squared length of each column of the linear map f -> d,
    times the variance at that candidate. The candidates of a node share no rollout, so there are no cross terms.
    """
    return kept.mass**2 * (kept.weights**2 * step_squares(kept.weights) * variances).sum(-1)


def step_squares(weights: Float[np.ndarray, "*batch candidate"]) -> Float[np.ndarray, "*batch candidate"]:
    """|e_k - w|^2 = 1 - 2 w_k + sum_j w_j^2: the squared step in the logits that pulls towards candidate k alone."""
    return 1.0 - 2.0 * weights + (weights**2).sum(-1, keepdims=True)


def has_distinct_rates(kept: KeptNodes) -> Bool[np.ndarray, " node"]:
    """True where the success rates of the kept candidates are not all equal."""
    return success_gap(kept, kept.rates) > 0.0


def success_gap(kept: KeptNodes, rates: Float[np.ndarray, "*batch node candidate"]) -> Float[np.ndarray, "*batch node"]:
    """Largest minus smallest success rate among the kept candidates (NaN where a rate is unknown)."""
    high = np.where(kept.is_candidate, rates, -np.inf).max(-1, initial=-np.inf)
    low = np.where(kept.is_candidate, rates, np.inf).min(-1, initial=np.inf)
    return high - low


def pack_nodes(candidates: pl.DataFrame, *, min_kept: int = MIN_KEPT) -> KeptNodes:
    """Pad the kept candidates of every node that has enough of them.

    Args:
        candidates: `candidates.parquet`; uses the keys, student_logprob, visits, success_rate, success_variance, the
            halves and `kept`. Row order does not matter.
        min_kept: how many a node needs.
    """
    slots = (
        candidates.filter("kept")
        .with_columns(pl.len().over(NODE_KEYS).alias("kept_here"))
        .filter(pl.col("kept_here") >= min_kept)
        .sort(*NODE_KEYS, "token_id")
        .with_columns(pl.struct(NODE_KEYS).rle_id().cast(pl.Int64).alias("node"))
        .with_columns(pl.int_range(pl.len()).over("node").alias("slot"))
    )
    keys = slots.filter(pl.col("slot") == 0).select(*NODE_KEYS)
    width = int(slots["kept_here"].max() or 0)  # pyright: ignore[reportArgumentType]
    place = (slots["node"].to_numpy(), slots["slot"].to_numpy())

    def padded(values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        array = np.full((keys.height, width), fill, dtype=values.dtype)
        array[place] = values
        return array

    probabilities = padded(np.exp(_floats(slots["student_logprob"])))
    mass = probabilities.sum(-1)
    return KeptNodes(
        keys=keys,
        slots=slots.select(*NODE_KEYS, "token_id", "node", "slot"),
        is_candidate=padded(np.ones(slots.height, dtype=bool)),
        weights=probabilities / mass[:, None],
        mass=mass,
        visits=padded(_floats(slots["visits"])),
        rates=padded(_floats(slots["success_rate"])),
        rates_a=padded(_share(slots["successes_a"], slots["visits_a"])),
        rates_b=padded(_share(slots["successes_b"], slots["visits_b"])),
        variances=padded(_floats(slots["success_variance"])),
    )


def teachers_under(continuation: str, teacher_scores: pl.DataFrame) -> tuple[str, ...]:
    """Whose arms have success rates where this model continues: everyone's under the student, else its own."""
    teachers = teacher_scores["teacher"].unique().sort().to_list()
    return tuple(teachers) if continuation == STUDENT else tuple(name for name in teachers if name == continuation)


def pack_fields(
    kept: KeptNodes, teacher_scores: pl.DataFrame, teachers: Sequence[str], objectives: Sequence[str]
) -> TeacherFields:
    """Every teacher's log-probabilities and fields at the kept candidates.

    A node at which one teacher was scored on some but not all kept candidates is left out for all teachers: nothing is
    filled in, and no teacher is compared on a node that another one was refused.
    """
    shape = (len(teachers), *kept.is_candidate.shape)
    logprobs = np.full(shape, np.nan)
    fields = np.full((len(teachers), len(objectives), *kept.is_candidate.shape), np.nan)
    columns = [FIELD_PREFIX + name for name in objectives]
    noise = np.zeros((2, *fields.shape))
    places = kept.slots.select(*CANDIDATE_KEYS, "node", "slot")
    for index, teacher in enumerate(teachers):
        own = teacher_scores.filter(pl.col("teacher") == teacher)
        rows = places.join(own, on=CANDIDATE_KEYS, how="inner")
        node, slot = rows["node"].to_numpy(), rows["slot"].to_numpy()
        logprobs[index, node, slot] = _floats(rows["teacher_logprob"])
        for number, column in enumerate(columns):
            fields[index, number, node, slot] = _floats(rows[column])
            if objectives[number] in SAMPLED_FIELDS:
                for place, moment in enumerate(("reward_variance", "reward_success_covariance")):
                    noise[place, index, number, node, slot] = _floats(rows[moment])
    logprobs[:, ~kept.is_candidate] = -np.inf
    fields[:, :, ~kept.is_candidate] = 0.0
    noise[..., ~kept.is_candidate] = 0.0
    known = np.isfinite(logprobs).sum(-1)
    is_scored = known == kept.is_candidate.sum(-1)
    is_partial = ((known > 0) & ~is_scored).any(0)
    return TeacherFields(tuple(teachers), tuple(objectives), is_scored & ~is_partial, logprobs, fields, *noise)


def _floats(column: pl.Series) -> Float[np.ndarray, " row"]:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _share(part: pl.Series, whole: pl.Series) -> Float[np.ndarray, " row"]:
    counts = _floats(whole)
    return np.divide(_floats(part), counts, out=np.full(len(counts), np.nan), where=counts > 0)
