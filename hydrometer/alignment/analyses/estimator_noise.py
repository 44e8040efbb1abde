"""How noisy the sampled directions are around their mean: one rollout per node, against the whole distribution.

At a node with kept weights w, mass M and field f, the direction of one sampled token a is

    X = [a is kept] f_a (e_a - w),    P(a) = M w_a,    E X = d = M w (f - sum_k w_k f_k)
    E |X|^2 = M sum_a w_a f_a^2 (1 - 2 w_a + sum_j w_j^2),    trace Cov X = E |X|^2 - |d|^2

    sampled_token: f = log q - log p          minillm: f = mean reward to go through the token

`reverse_kl` (GKD) takes the expectation over the vocabulary and has no such noise. With n rollouts through the node
the covariance is divided by n: at `rollouts_for_unit_ratio` noise and mean are equally long. For MiniLLM the spread of
the reward to go among rollouts through one token comes on top and is not counted here: its ratio is an upper bound.
"""

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.arrays import CANDIDATE_KEYS, KeptNodes, centre, step_squares
from hydrometer.alignment.contributions import sum_nodes
from hydrometer.alignment.entries import describe, finite
from hydrometer.alignment.intervals import jackknife
from hydrometer.alignment.study import Study

NO_REWARD = "no_reward_to_go"
NO_NODES = "no_nodes"
Field = Float[np.ndarray, "node candidate"]


def single_sample_variance(kept: KeptNodes, field: Field) -> Float[np.ndarray, " node"]:
    """Trace of the covariance of the direction of one sampled token at every node."""
    second = kept.mass * (kept.weights * field**2 * step_squares(kept.weights)).sum(-1)
    return second - (centre(kept.weights, kept.mass, field) ** 2).sum(-1)


def estimator_noise(study: Study, teacher_scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Squared mean over variance of one rollout, pooled over nodes, per teacher and sampled objective."""
    rows = []
    student = np.log(np.where(study.kept.is_candidate, study.kept.weights * study.kept.mass[:, None], 1.0))
    for index, teacher in enumerate(study.teachers):
        present = study.fields.is_scored[index]
        ratio = np.where(study.kept.is_candidate & present[:, None], study.fields.logprobs[index] - student, 0.0)
        rows.append(_row(study, teacher, "sampled_token", ratio, present, NO_NODES))
        rewards = _rewards(study.kept, teacher_scores.filter(teacher=teacher))
        known = np.isfinite(rewards).all(-1) & present
        rows.append(_row(study, teacher, "minillm", np.nan_to_num(rewards), known, NO_REWARD))
    return rows


def _row(study: Study, teacher: str, estimator: str, field: Field, present: np.ndarray, reason: str) -> dict[str, Any]:
    mean = (centre(study.kept.weights, study.kept.mass, field) ** 2).sum(-1)
    sums = sum_nodes(study.labels, np.stack([mean, single_sample_variance(study.kept, field)]) * present)
    has_node = sum_nodes(study.labels, present.astype(np.float64)) > 0.0
    ratio = jackknife(_ratio, sums, has_node)
    total = sums.sum(0)
    value = float(ratio.value)
    return {
        "teacher": teacher,
        "continuation": study.continuation,
        "estimator": estimator,
        "n_nodes": int(present.sum()),
        "mean_squared": finite(total[0]) if present.any() else None,
        "variance": finite(total[1]) if present.any() else None,
        "ratio": describe(ratio, reason="no_noise" if present.any() else reason),
        "rollouts_for_unit_ratio": finite(1.0 / value) if value > 0.0 else None,
        "is_upper_bound": estimator == "minillm",
    }


def _ratio(sums: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
    mean, variance = sums[..., 0], sums[..., 1]
    return np.divide(mean, variance, out=np.full_like(mean, np.nan), where=variance > 0.0)


def _rewards(kept: KeptNodes, scores: pl.DataFrame) -> Field:
    """Mean rewards to go at the kept candidates, NaN where unknown and 0 in padding."""
    rewards = np.where(kept.is_candidate, np.nan, 0.0)
    rows = kept.slots.join(scores.select(*CANDIDATE_KEYS, "reward_to_go"), on=list(CANDIDATE_KEYS), how="inner")
    values = rows["reward_to_go"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    rewards[rows["node"].to_numpy(), rows["slot"].to_numpy()] = values
    return rewards
