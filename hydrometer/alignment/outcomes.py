"""Inner products with the ideal direction from the outcomes of the analysed paths alone: no branch is sampled.

At a node the token j that the path took was drawn from p, and the path was right (R = 1) or wrong. For any baseline v
that does not depend on j or R,

    E[(d_j - sum_k w_k d_k) (R - v)] = sum_j M w_j (d_j - sum_k w_k d_k) S_j = g.d     (0 where j is not a candidate)

so every token of every scored path is an unbiased sample of g.d at its node, at no cost beyond the path itself: the
policy gradient read backwards. `v` is the mean outcome of the question's other on-policy rollouts, shrunk to 1/2.

What it can't do. It holds on average over right and wrong paths together: within the correct (or the incorrect) ones R
does not vary, so it says nothing about those splits. It gives sums over nodes; one node's value is noise. And |g|^2 is
quadratic in S: it still needs branches.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from hydrometer.alignment.arrays import NODE_KEYS, KeptNodes, pack_fields, pack_nodes
from hydrometer.alignment.choice import Evidence, gather_evidence
from hydrometer.alignment.contributions import label_nodes
from hydrometer.alignment.metrics import TERMS
from hydrometer.alignment.scores import MIN_DIRECTION_NORM, compute_arm_scores
from hydrometer.alignment.study import Study

PRIOR_ROLLOUTS = 1.0
"""How many rollouts, half of them right, the baseline is shrunk by."""


def taken_scores(
    weights: Float[np.ndarray, "*batch candidate"],
    directions: Float[np.ndarray, "*arms candidate"],
    taken: Int[np.ndarray, "*batch"],
) -> Float[np.ndarray, "*nodes"]:
    """d_j - sum_k w_k d_k of the token that the path took: what R - v is multiplied by.

    Args:
        weights: student probability renormalised over the candidates.
        directions: of every arm, on the same candidates; leading axes are arms.
        taken: place of the path's token among the candidates; negative where it is none of them.
    """
    place = np.broadcast_to(np.maximum(taken, 0), directions.shape[:-1])[..., None]
    own = np.take_along_axis(directions, place, axis=-1)[..., 0]
    return np.where(taken >= 0, own - (weights * directions).sum(-1), 0.0)


class ScoredPaths(NamedTuple):
    """Tables of a run whose paths were scored everywhere."""

    nodes: pl.DataFrame
    candidates: pl.DataFrame
    teacher_scores: pl.DataFrame
    """With a column `field:NAME` per objective."""
    questions: pl.DataFrame
    """For `rollouts` and `correct` of the base rollouts."""


def outcome_evidence(study: Study, scored: ScoredPaths) -> Evidence:
    """What arms are ranked by: g.d and |d|^2 at every scored node of every path, |g|^2 from the measured nodes.

    All candidates that the student can sample count here, however often they were visited. The weights of the measured
    nodes, those of `study`, have to stand for all nodes of the question's paths.
    """
    nodes, candidates, teacher_scores, questions = scored
    mine = candidates.filter(pl.col("continuation") == study.continuation).with_columns(
        kept=pl.col("student_logprob").is_not_null(), success_rate=pl.lit(0.0), success_variance=pl.lit(0.0)
    )
    kept = pack_nodes(mine)
    scores = compute_arm_scores(kept, pack_fields(kept, teacher_scores, study.teachers, study.fields.objectives))
    taken, surprise = path_columns(kept, nodes, questions)
    inner = taken_scores(kept.weights, scores.directions, taken) * surprise
    moves = scores.direction_norm >= MIN_DIRECTION_NORM
    terms = np.zeros((len(TERMS), *inner.shape))
    terms[TERMS.index("nodes")] = 1.0
    terms[TERMS.index("inner")] = inner * moves
    terms[TERMS.index("direction_square")] = scores.direction_norm**2 * moves
    terms = np.where(scores.is_present, terms, 0.0)
    labels = label_nodes(kept, nodes.with_columns(node_weight=pl.lit(1.0)))
    evidence = gather_evidence(study.arms, scores, terms, labels, study.sums)
    values = [terms[(TERMS.index("inner"), *arm.place)] for arm in evidence.ranked]
    totals = path_totals(kept, nodes, np.array(values).reshape(len(values), len(kept)))
    return evidence._replace(question_shares=question_shares(*totals))


def path_totals(
    kept: KeptNodes, nodes: pl.DataFrame, values: Float[np.ndarray, "arm node"]
) -> tuple[Float[np.ndarray, "arm path"], Int[np.ndarray, " path"]]:
    """Sum over the nodes of every path, also of those without a packed node, and the number of its question."""
    keys = ["question_id", "rollout_id"]
    paths = nodes.select(keys).unique().sort(keys).with_row_index("path")
    place = kept.keys.join(paths, on=keys, how="left", maintain_order="left")["path"].to_numpy()
    sums = [np.bincount(place, row, minlength=paths.height) for row in values]
    question = np.unique(paths["question_id"].to_numpy(), return_inverse=True)[1]
    return np.array(sums, dtype=np.float64).reshape(len(values), paths.height), question.astype(np.int64)


def question_shares(
    totals: Float[np.ndarray, "arm path"], question: Int[np.ndarray, " path"]
) -> Float[np.ndarray, " arm"]:
    """1 - (variance within questions) / (variance of question totals), between 0 and 1; NaN where it is unknown.

    The paths of a question are independent, so that n of them add n times the variance of one to its total. What is
    left is between questions: more paths of each do nothing about it.
    """
    counts = np.bincount(question)
    if len(counts) < 2 or counts.min() < 2:
        return np.full(len(totals), np.nan)
    per_question = np.stack([np.bincount(question, row) for row in totals], axis=0)
    centred = totals - (per_question / counts)[:, question]
    within = np.stack([np.bincount(question, row) for row in centred**2], axis=0) * counts / (counts - 1)
    total = per_question.var(axis=1, ddof=1)
    share = np.divide(within.mean(1), total, out=np.full(len(totals), np.nan), where=total > 0.0)
    return np.clip(1.0 - share, 0.0, 1.0)


def path_columns(
    kept: KeptNodes, nodes: pl.DataFrame, questions: pl.DataFrame
) -> tuple[Int[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Of every node: place of the path's token among the candidates (-1: none), and R - v of its path."""
    paths = nodes.select("question_id", "rollout_id", "path_correct").unique()
    of_question = pl.col("question_id")
    known = pl.col("path_correct").sum().over(of_question) + pl.col("correct") - pl.col("path_correct").cast(pl.Int64)
    others = pl.len().over(of_question) + pl.col("rollouts") - 1
    baseline = (known + PRIOR_ROLLOUTS / 2) / (others + PRIOR_ROLLOUTS)
    surprise = paths.join(questions.select("question_id", "rollouts", "correct"), on="question_id").select(
        "question_id", "rollout_id", surprise=pl.col("path_correct").cast(pl.Float64) - baseline
    )
    rows = (
        kept.keys.join(nodes.select(*NODE_KEYS, "token_id"), on=list(NODE_KEYS), how="left", maintain_order="left")
        .join(kept.slots, on=[*NODE_KEYS, "token_id"], how="left", maintain_order="left")
        .join(surprise, on=["question_id", "rollout_id"], how="left", maintain_order="left")
    )
    return rows["slot"].fill_null(-1).to_numpy(), rows["surprise"].to_numpy()
