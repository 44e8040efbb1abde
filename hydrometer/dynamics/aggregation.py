"""From the statistics of tokens to the metrics of one optimiser step.

A metric is the mean over all response tokens of the step, each counting once, unless its entry in `METRICS` says
otherwise. NaN entries (not defined there) are left out; a mean that is infinite, or over nothing, is None.

Departure from the code of arXiv:2605.11182: it drops every non-finite value. A token that the teacher excludes then
makes the teacher look better; here it makes the mean undefined.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from hydrometer.artifacts.metrics import SPLIT_BY_REPEAT, STEP_METRICS
from hydrometer.dynamics.positions import StudentStats, TokenStats
from hydrometer.dynamics.sequences import (
    compute_auroc,
    compute_referring_share,
    compute_repeat_mask,
    compute_sequence_rewards,
)
from hydrometer.types import Rollout

FIRST_BIN_TOKENS = 16
Column = Float64[np.ndarray, " token"]


def build_bin_starts(max_response_tokens: int) -> tuple[int, ...]:
    """Positions at which a bin starts: 0, 16, 32, 64, ... below the longest response."""
    starts = [0]
    while (start := FIRST_BIN_TOKENS << (len(starts) - 1)) < max_response_tokens:
        starts.append(start)
    return tuple(starts)


def aggregate(
    stats: TokenStats | StudentStats, rollouts: Sequence[Rollout], *, bin_starts: Sequence[int], graded: bool = True
) -> dict[str, float | None]:
    """The metrics of one step by name, None where undefined. The statistics leave the accelerator here, at once.

    Args:
        stats: of all response tokens of the step, rollout after rollout in the order given.
        rollouts: the step's responses with their outcomes.
        bin_starts: ascending positions at which the position bins start, the first being 0 (`build_bin_starts`).
        graded: False where nothing says which rollouts are correct; accuracy and what depends on it are then None.

    Raises:
        ValueError: the statistics are not of as many tokens as the rollouts have, or the bins are not ascending from 0.
    """
    lengths = np.array([len(rollout.token_ids) for rollout in rollouts], dtype=np.int64)
    if len(stats.student_logprob) != lengths.sum():
        raise ValueError(
            f"expected statistics of the {lengths.sum()} tokens of {len(rollouts)} rollouts, "
            f"got those of {len(stats.student_logprob)}"
        )
    if list(bin_starts[:1]) != [0] or any(np.diff(bin_starts) <= 0):
        raise ValueError(f"expected bins that start at 0 and ascend, got {tuple(bin_starts)}")
    columns = _columns(stats)
    found = {name: _mean(columns.get(name)) for name in STEP_METRICS}
    found |= _repeats(columns, rollouts)
    found |= _responses(rollouts, lengths)
    if graded:
        found |= _outcomes(columns, rollouts, lengths)
    positions = np.concatenate([np.arange(length) for length in lengths]) if len(lengths) else np.zeros(0, np.int64)
    return found | _by_position(columns, positions.astype(np.int64), bin_starts)


def _columns(stats: TokenStats | StudentStats) -> dict[str, Column]:
    """One float64 array per statistic, and those that are made of two."""
    dtype = stats.student_entropy.dtype
    together = torch.stack([column.to(dtype) for column in stats]).cpu().numpy().astype(np.float64)
    columns = dict(zip(stats._fields, together, strict=True))
    if "teacher_logprob" in columns:
        columns["teacher_nll"] = -columns["teacher_logprob"]
        columns["teacher_minus_student_logprob"] = columns["teacher_logprob"] - columns["student_logprob"]
        columns["entropy_gap"] = np.abs(columns["teacher_entropy"] - columns["student_entropy"])
    return columns


def _mean(values: Column | None, where: Bool[np.ndarray, " token"] | None = None) -> float | None:
    if values is None:
        return None
    chosen = values if where is None else values[where]
    chosen = chosen[~np.isnan(chosen)]
    if not len(chosen) or np.isinf(chosen).any():
        return None
    return float(chosen.mean()) + 0.0  # -0.0 becomes 0.0


def _repeats(columns: Mapping[str, Column], rollouts: Sequence[Rollout]) -> dict[str, float | None]:
    masks = [compute_repeat_mask(rollout.token_ids) for rollout in rollouts]
    is_repeat = np.concatenate(masks) if masks else np.zeros(0, dtype=bool)
    found = {"repeat_ratio": _mean(is_repeat.astype(np.float64))}
    for name in SPLIT_BY_REPEAT:
        found[f"{name}_repeated"] = _mean(columns.get(name), is_repeat)
        found[f"{name}_other"] = _mean(columns.get(name), ~is_repeat)
    return found


def _responses(rollouts: Sequence[Rollout], lengths: Int64[np.ndarray, " rollout"]) -> dict[str, float | None]:
    return {
        "response_tokens_mean": _mean(lengths.astype(np.float64)),
        "truncated_share": _mean(np.array([rollout.truncated for rollout in rollouts], dtype=np.float64)),
        "referring_share": compute_referring_share([rollout.text for rollout in rollouts]),
    }


def _outcomes(
    columns: Mapping[str, Column], rollouts: Sequence[Rollout], lengths: Int64[np.ndarray, " rollout"]
) -> dict[str, float | None]:
    is_correct = np.array([rollout.correct for rollout in rollouts], dtype=bool)
    found = {"accuracy": _mean(is_correct.astype(np.float64))}
    log_ratio = columns.get("teacher_minus_student_logprob")
    if log_ratio is not None:
        owner = np.repeat(np.arange(len(rollouts)), lengths)
        rewards = compute_sequence_rewards(log_ratio, owner, len(rollouts))
        found["sequence_reward_correct_mean"] = _mean(rewards, is_correct)
        found["sequence_reward_incorrect_mean"] = _mean(rewards, ~is_correct)
        found["sequence_reward_auroc"] = compute_auroc(rewards, is_correct)
    return found


def _by_position(
    columns: Mapping[str, Column], positions: Int64[np.ndarray, " token"], bin_starts: Sequence[int]
) -> dict[str, float | None]:
    bin_of = np.searchsorted(np.asarray(bin_starts), positions, side="right") - 1
    return {
        f"{name}_bin_{number}": _mean(columns.get(name), bin_of == number)
        for name in ("teacher_nll", "reverse_kl", "student_entropy", "teacher_entropy")
        for number in range(len(bin_starts))
    }
