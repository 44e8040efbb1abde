"""Does the direction of Dr. GRPO approach the ideal one as its groups grow, and does dividing by length keep it away?

A group is G base rollouts of one question, A_i = reward_i - mean reward of the group. At a node u, over the n rollouts
of the group that reach u and take a kept token a_i:

    D = sum_i A_i (e_{a_i} - w)               Dr. GRPO
    D = sum_i (A_i / |y_i|) (e_{a_i} - w)     with length normalisation, |y_i| response tokens
    E D = (1 - 1 / G) n h,   h_j = w_j (S_j - sum_k w_k S_k)     for the first; any constant baseline cancels

    cosine(G) = sum W n h.D / sqrt(sum W n^2 (|h|^2 - noise)  sum W |D|^2)     over groups and nodes

(arXiv 2605.10889 states the limit; the form of the test is ours.) No rollout is used twice: groups are made of every
second base rollout, S is taken from the other base rollouts and the branches. With length normalisation the weights
depend on the outcome wherever lengths do, and the cosine stays below 1 however large the groups.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from hydrometer.alignment.arrays import CANDIDATE_KEYS, KeptNodes, step_squares
from hydrometer.alignment.entries import describe
from hydrometer.alignment.intervals import CORRELATION, jackknife
from hydrometer.alignment.study import Study
from hydrometer.types import STUDENT

NO_GROUP = "no_complete_group"
SMALLEST = 2
FORMS = ("dr_grpo", "length_normalised")
Steps = pl.DataFrame
"""One row per grouped rollout and packed node where it takes a kept token: node, slot, rollout."""


class Reference(NamedTuple):
    """The ideal direction from rollouts that are in no group."""

    direction: Float[np.ndarray, "node candidate"]
    """h; 0 at nodes where it is unknown."""
    square: Float[np.ndarray, " node"]
    """|h|^2 with its sampling noise subtracted."""
    is_known: Bool[np.ndarray, " node"]


def converge_with_group_size(study: Study, rollouts: pl.DataFrame | None) -> list[dict[str, Any]]:
    """One row per group size 2, 4, 8 ... that some question has enough base rollouts for.

    Args:
        study: with student continuation (base rollouts are the student's).
        rollouts: `rollouts.parquet`; None or a table without base rollouts gives no row.
    """
    if rollouts is None or study.continuation != STUDENT or not len(study.kept):
        return []
    grouped = _grouped_rollouts(rollouts)
    steps = _steps(study.kept, grouped, rollouts.filter(kind="path"))
    reference = _reference(study.kept, steps)
    steps = steps.filter(pl.Series(reference.is_known, dtype=pl.Boolean).gather(steps["node"]))
    largest = int(grouped.group_by("question_id").len()["len"].max() or 0)  # pyright: ignore[reportArgumentType]
    rows = []
    size = SMALLEST
    while size <= largest:
        members = steps.join(_advantages(grouped, size), on="rollout").sort("node", "rollout")
        rows.append({"group_size": size} | _row(study, members, reference))
        size *= 2
    return rows


def _grouped_rollouts(rollouts: pl.DataFrame) -> pl.DataFrame:
    """Every second base rollout of each question: `rollout` numbers them all, `order` those of a question."""
    base = rollouts.filter(kind="base", model=STUDENT).sort("question_id", "rollout_id")
    numbered = base.with_columns(pl.int_range(pl.len()).over("question_id").alias("order"))
    chosen = numbered.filter(pl.col("order") % 2 == 1).with_columns(pl.col("order") // 2)
    return chosen.with_row_index("rollout").with_columns(pl.col("rollout").cast(pl.Int64))


def _steps(kept: KeptNodes, grouped: pl.DataFrame, paths: pl.DataFrame) -> Steps:
    """Where the grouped rollouts meet the analysed paths, restricted to packed nodes."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("path", "rollout", "position", "token_id")}
    paths = paths.with_row_index("path")
    by_question = grouped.partition_by("question_id", as_dict=True)
    for path, question, ids in paths.select("path", "question_id", "token_ids").iter_rows():
        mine = by_question.get((question,))
        if mine is None:
            continue
        tokens = _padded(mine["token_ids"], len(ids))
        reach = np.cumprod(tokens == np.asarray(ids), axis=1, dtype=np.int64)
        arrives = np.concatenate([np.ones((len(tokens), 1), dtype=np.int64), reach[:, :-1]], axis=1)
        row, position = np.nonzero(arrives & (tokens >= 0))
        found["path"].append(np.full(len(row), path))
        found["rollout"].append(mine["rollout"].to_numpy()[row])
        found["position"].append(position)
        found["token_id"].append(tokens[row, position])
    joined = {name: np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64) for name, parts in found.items()}
    visits = pl.DataFrame({name: values.astype(np.int64) for name, values in joined.items()})
    place = paths.select(pl.col("path").cast(pl.Int64), "question_id", "rollout_id")
    slots = kept.slots.select(*CANDIDATE_KEYS, "node", "slot")
    outcome = grouped.select("rollout", pl.col("correct").cast(pl.Float64))
    return visits.join(place, on="path").join(slots, on=list(CANDIDATE_KEYS)).join(outcome, on="rollout")


def _padded(token_ids: pl.Series, width: int) -> Int[np.ndarray, "rollout position"]:
    """The first `width` tokens of each rollout, -1 beyond its end."""
    lists = token_ids.list.head(width)
    lengths = lists.list.len().to_numpy()
    out = np.full((len(lists), width), -1, dtype=np.int64)
    out[np.arange(width) < lengths[:, None]] = lists.explode().drop_nulls().to_numpy()
    return out


def _reference(kept: KeptNodes, steps: Steps) -> Reference:
    """From the counted rollouts that are in no group; unknown where a candidate keeps fewer than two visits."""
    width = kept.is_candidate.shape[1]
    cell = steps["node"].to_numpy() * width + steps["slot"].to_numpy()

    def tally(values: np.ndarray | None) -> Float[np.ndarray, "node candidate"]:
        return np.bincount(cell, values, minlength=kept.is_candidate.size).reshape(kept.is_candidate.shape) * 1.0

    visits = kept.visits - tally(None)
    successes = np.rint(kept.rates * kept.visits) - tally(steps["correct"].to_numpy())
    is_known = np.logical_and.reduce((visits >= 2.0) | ~kept.is_candidate, axis=1)
    usable = kept.is_candidate & is_known[:, None]
    rates = np.divide(successes, visits, out=np.zeros_like(visits), where=usable)
    variance = np.divide(rates * (1.0 - rates), visits - 1.0, out=np.zeros_like(visits), where=usable)
    mean = (kept.weights * rates).sum(-1, keepdims=True)
    direction = np.where(usable, kept.weights * (rates - mean), 0.0)
    factor = kept.weights**2 * step_squares(kept.weights)
    return Reference(direction, (direction**2).sum(-1) - (factor * variance).sum(-1), is_known)


def _row(study: Study, members: pl.DataFrame, reference: Reference) -> dict[str, Any]:
    """Pooled cosine of both forms over the groups of one size."""
    width = study.kept.is_candidate.shape[1]
    node = members["node"].to_numpy()
    pairs, pair = np.unique(np.stack([node, members["group"].to_numpy()]), axis=1, return_inverse=True)
    pair = pair.ravel()
    at, slot = pairs[0], members["slot"].to_numpy()
    count = np.bincount(pair, minlength=len(at)).astype(np.float64)
    question = study.labels.question[at]
    n_questions = len(study.labels.questions)
    weights = study.kept.weights[at]
    row: dict[str, Any] = {
        "n_groups": members["group"].n_unique(),
        "n_nodes": len(np.unique(at)),
    }
    for form in FORMS:
        pull = members["advantage"].to_numpy() / (members["length"].to_numpy() if form == "length_normalised" else 1.0)
        taken = np.bincount(pair * width + slot, pull, minlength=len(at) * width).reshape(len(at), width)
        direction = taken - weights * taken.sum(1, keepdims=True)
        weight = study.labels.weight[at]
        terms = (
            count * (reference.direction[at] * direction).sum(1),
            count**2 * reference.square[at],
            (direction**2).sum(1),
        )
        # the counts of nothing are integers, whatever the type of the weights
        sums = np.stack([np.bincount(question, weight * term, minlength=n_questions) * 1.0 for term in terms], axis=1)
        contributes = np.bincount(question, minlength=n_questions) > 0
        result = jackknife(_pooled, sums, contributes, limits=CORRELATION, is_ratio=True)
        row[form] = describe(result, reason="noise" if len(at) else NO_GROUP)
    return row


def _advantages(grouped: pl.DataFrame, size: int) -> pl.DataFrame:
    """Per rollout of a complete group: its `group` (a number over all questions), advantage and length."""
    reward = pl.col("correct").cast(pl.Float64)
    cells = ["question_id", pl.col("order") // size]
    return (
        grouped.with_columns(
            pl.len().over(*cells).alias("present"),
            (reward - reward.mean().over(*cells)).alias("advantage"),
            pl.col("rollout").first().over(*cells).alias("group"),
            pl.col("token_ids").list.len().cast(pl.Float64).alias("length"),
        )
        .filter(pl.col("present") == size)
        .select("rollout", "group", "advantage", "length")
    )


def _pooled(sums: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch"]:
    inner, ideal, direction = sums[..., 0], sums[..., 1], sums[..., 2]
    is_defined = (ideal > 0.0) & (direction > 0.0)
    length = np.sqrt(np.where(is_defined, ideal * direction, 1.0))
    return np.divide(inner, length, out=np.full_like(inner, np.nan), where=is_defined)
