"""What every node adds to every aggregate, and the sums of it per question and split.

    sums[question, split, teacher, objective, term] = sum over the nodes of W x term,   W = path_weight x node_weight

A node carries the outcome of the path it was taken from (arXiv 2605.10889, reading (i): nodes are counted per path).
All intervals over questions work on these sums alone, so that every correction is redone in every resample.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import sparse

from hydrometer.alignment.arrays import (
    NODE_KEYS,
    KeptNodes,
    centre,
    ideal_direction,
    node_noise,
    success_gap,
)
from hydrometer.alignment.metrics import TERMS
from hydrometer.alignment.scores import MIN_DIRECTION_NORM, ArmScores, cosine_of

SPLITS = ("all", "correct", "incorrect")


@dataclass(frozen=True, slots=True)
class NodeLabels:
    """Question, weight and outcome of each packed node."""

    questions: tuple[str, ...]
    question: Int[np.ndarray, " node"]
    """Index into `questions`."""
    weight: Float[np.ndarray, " node"]
    path_correct: Bool[np.ndarray, " node"]


def label_nodes(kept: KeptNodes, nodes: pl.DataFrame) -> NodeLabels:
    """Look up outcome and weights in `nodes.parquet`; questions are those that have a packed node."""
    columns = nodes.select(*NODE_KEYS, "path_correct", (pl.col("path_weight") * pl.col("node_weight")).alias("weight"))
    rows = kept.keys.join(columns, on=list(NODE_KEYS), how="left", maintain_order="left")
    questions = rows["question_id"].unique().sort().to_list()
    lookup = {question: index for index, question in enumerate(questions)}
    return NodeLabels(
        questions=tuple(questions),
        question=np.array([lookup[name] for name in rows["question_id"]], dtype=np.int64),
        weight=rows["weight"].cast(pl.Float64).to_numpy(),
        path_correct=rows["path_correct"].to_numpy().astype(bool),
    )


@dataclass(frozen=True, slots=True)
class QuestionSums:
    """Per-question sums of every term, and how many nodes stand behind them."""

    questions: tuple[str, ...]
    sums: Float[np.ndarray, "question split teacher objective term"]
    counts: Float[np.ndarray, "question split teacher objective term"]
    """Unweighted numbers of nodes, meaningful for the indicator terms."""


def sum_by_question(labels: NodeLabels, terms: Float[np.ndarray, "term teacher objective node"]) -> QuestionSums:
    """Add up the nodes of each question, for all nodes and for those of correct and of incorrect paths."""
    rows = np.moveaxis(terms, -1, 0)
    flat = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
    shape = (len(labels.questions), len(SPLITS), *terms.shape[1:3], terms.shape[0])

    def summed(weight: Float[np.ndarray, " node"]) -> np.ndarray:
        members = np.stack([np.ones_like(weight), labels.path_correct, ~labels.path_correct]) * weight
        blocks = [_indicator(labels, row) @ flat for row in members]
        stacked = np.stack(blocks, axis=1).reshape(shape[0], shape[1], len(TERMS), *terms.shape[1:3])
        return np.moveaxis(stacked, 2, -1)

    return QuestionSums(labels.questions, summed(labels.weight), summed(np.ones_like(labels.weight)))


def sum_nodes(labels: NodeLabels, values: Float[np.ndarray, "... node"]) -> Float[np.ndarray, "question ..."]:
    """Sum of W x value over the nodes of each question (0 where a question has none)."""
    flat = values.reshape(math.prod(values.shape[:-1]), values.shape[-1]).T
    return (_indicator(labels, labels.weight) @ flat).reshape(len(labels.questions), *values.shape[:-1])


def _indicator(labels: NodeLabels, weight: Float[np.ndarray, " node"]) -> sparse.csr_array:
    shape = (len(labels.questions), len(weight))
    return sparse.csr_array((weight, (labels.question, np.arange(len(weight)))), shape=shape)


@dataclass(frozen=True, slots=True)
class HalfScores:
    """Cosines and gaps when only one half of the rollouts is used."""

    cosine: Float[np.ndarray, "teacher objective node"]
    gap: Float[np.ndarray, " node"]


def compute_half_scores(kept: KeptNodes, scores: ArmScores, rates: Float[np.ndarray, "node candidate"]) -> HalfScores:
    """Like the full scores, from the success rates of one half; undefined (NaN) where a rate of it is unknown."""
    is_known = np.logical_and.reduce(np.isfinite(rates), axis=-1)
    rates = np.where(is_known[:, None], rates, 0.0)
    ideal = centre(kept.weights, kept.mass, rates)
    gap = success_gap(kept, rates)
    inner = (scores.directions * ideal).sum(-1)
    cosine = cosine_of(kept, inner, ideal, scores.direction_norm, is_known & (gap > 0.0))
    return HalfScores(cosine, np.where(is_known, gap, np.nan))


def node_terms(
    kept: KeptNodes, scores: ArmScores, half_a: HalfScores, half_b: HalfScores
) -> Float[np.ndarray, "term teacher objective node"]:
    """Every term of every arm at every node, before weighting; 0 where the arm is absent.

    A direction shorter than 1e-6 counts as none here too: summed rounding errors must not look like a teacher.
    """
    ideal = ideal_direction(kept)
    full_gap = success_gap(kept, kept.rates)
    defined = np.isfinite(scores.cosine)
    moves = scores.direction_norm >= MIN_DIRECTION_NORM
    ones = np.ones_like(scores.inner_product)
    terms = {
        "nodes": ones,
        "advantage": scores.advantage[:, None] * ones,
        "signal": scores.signal,
        "inner": scores.inner_product * moves,
        "ideal_square": (ideal**2).sum(-1) * ones,
        "noise": node_noise(kept) * ones,
        "direction_square": scores.direction_norm**2 * moves,
        "inner_noise": scores.inner_noise * moves,
        "direction_noise": scores.direction_noise * moves,
        "defined": defined,
        "cosine": scores.cosine,
        "positive": scores.cosine > 0.0,
        "gap": full_gap * defined,
        "gap_cosine": full_gap * scores.cosine,
    }
    for own, other, name, twin in ((half_a, half_b, "a", "b"), (half_b, half_a, "b", "a")):
        usable = defined & np.isfinite(other.cosine) & np.isfinite(own.gap)
        terms[f"gap_{name}"] = np.where(usable, own.gap, 0.0)
        terms[f"gap_{name}_cosine_{twin}"] = np.where(usable, own.gap * other.cosine, 0.0)
        known = np.isfinite(own.cosine)
        terms[f"defined_{name}"] = known
        terms[f"cosine_{name}"] = own.cosine
        terms[f"positive_{name}"] = own.cosine > 0.0
        terms[f"gap_own_{name}"] = np.where(known, own.gap, 0.0)
        terms[f"gap_cosine_{name}"] = own.gap * own.cosine
    stacked = np.stack([np.asarray(terms[name], dtype=np.float64) for name in TERMS])
    return np.where(scores.is_present, np.nan_to_num(stacked, nan=0.0), 0.0)
