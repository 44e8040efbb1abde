"""Rewards to go: score rollouts under student and teachers, sum log q - log p to the end, average per candidate.

    reward_to_go(node, token) = mean over the counted rollouts through it of sum_(t' >= position) log q - log p

The same rollouts give the success rates, so that the two estimates share their noise. Beside the mean stand its
unbiased variance and its unbiased covariance with the success rate; the pooled cosine takes both out.

`minillm` needs them of every counted rollout. The table `log_ratios` (see `alignment.analyses.sequence_tilt`) needs the
sum from the first token of the base rollouts alone, and is made whenever rollouts are given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.runs.progress import Progress
from hydrometer.runs.rounds import Record, Rounds, round_size
from hydrometer.success.candidates import CANDIDATE_KEY
from hydrometer.teachers import response_log_ratios
from hydrometer.types import STUDENT, Rollout

REWARD_COLUMNS = ("reward_to_go", "reward_variance", "reward_success_covariance")


def score_rewards(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    """Score rollouts under student and teachers, one round per question and batch: those that the run has a use for."""
    if not instruments.needs_rewards and instruments.given is None:
        return
    size = round_size(instruments.student, instruments.config.max_response_tokens)
    progress.stage("scoring responses", sum(_count(instruments, state) for state in states))
    for state in states:
        counted = state.counted() if instruments.needs_rewards else state.of_kind("base")
        for start in range(0, len(counted), size):
            part = counted[start : start + size]
            key = [state.question.question_id, part[0].rollout_id, len(part), state.scored_teachers]
            record = rounds.run("rewards", key, lambda state=state, part=part: _score(instruments, state, part))
            joined = decode_arrays(record["arrays"])["log_ratio"]
            ends = np.cumsum([len(rollout.token_ids) for rollout in part])[:-1]
            for rollout, ratios in zip(part, np.split(joined, ends, axis=1), strict=True):
                state.rewards_to_go[rollout.rollout_id] = ratios[:, ::-1].cumsum(axis=1)[:, ::-1]
            progress.advance(len(part))


def _count(instruments: Instruments, state: QuestionState) -> int:
    return len(state.of_kind("base")) + (len(state.continued[STUDENT].rollouts) if instruments.needs_rewards else 0)


def _score(instruments: Instruments, state: QuestionState, rollouts: Sequence[Rollout]) -> Record:
    views = instruments.views(state.prompts)
    responses = [rollout.token_ids for rollout in rollouts]
    ratios = response_log_ratios(instruments.student, state.prompt_ids, views, responses, instruments.warp)
    scored = sum(map(len, responses)) * (1 + sum(len(view.prompts) for view in views))
    return {"scored_tokens": scored, "arrays": encode_arrays({"log_ratio": np.concatenate(ratios, axis=1)})}


def log_ratio_rows(states: Sequence[QuestionState]) -> list[dict[str, Any]]:
    """Rows of `log_ratios`: whole scored base rollouts, a row per teacher; the sum is null where p = 0 at a token."""
    return [
        {
            "question_id": rollout.question_id,
            "rollout_id": rollout.rollout_id,
            "teacher": teacher,
            "tokens": len(rollout.token_ids),
            "log_ratio_sum": float(total) if np.isfinite(total) else None,
            "correct": rollout.correct,
        }
        for state in states
        for rollout in state.of_kind("base")
        if rollout.rollout_id in state.rewards_to_go
        for teacher, total in zip(
            state.scored_teachers, state.rewards_to_go[rollout.rollout_id][:, 0].tolist(), strict=True
        )
    ]


def average_rewards(states: Sequence[QuestionState], visit_log: pl.DataFrame) -> pl.DataFrame:
    """Per candidate and teacher: `REWARD_COLUMNS` (nats; variance and covariance null below two visits).

    A rollout whose reward is unknown (p = 0 at one of its tokens) is left out of all three.
    """
    frames = [frame for state in states for frame in _rewards(state)]
    if not frames:
        keys = {"question_id": pl.String, "rollout_id": pl.Int64, "position": pl.Int64, "token_id": pl.Int64}
        return pl.DataFrame(schema={**keys, "teacher": pl.String, **dict.fromkeys(REWARD_COLUMNS, pl.Float64)})
    visits = visit_log.join(
        pl.concat(frames), on=["question_id", "counted_rollout_id", "position"], how="inner"
    ).with_columns(pl.col("correct").cast(pl.Float64))
    count = pl.len()
    return (
        visits.group_by(*CANDIDATE_KEY, "teacher")
        .agg(
            pl.col("reward").mean().alias("reward_to_go"),
            (pl.col("reward").var() / count).alias("reward_variance"),
            (pl.cov("reward", "correct") / count).alias("reward_success_covariance"),
        )
        .sort(*CANDIDATE_KEY, "teacher")
    )


def _rewards(state: QuestionState) -> list[pl.DataFrame]:
    """Rewards to go of one question in long form, a frame per teacher."""
    if not state.rewards_to_go:
        return []
    lengths = [values.shape[1] for values in state.rewards_to_go.values()]
    keys: dict[str, Any] = {
        "question_id": state.question.question_id,
        "counted_rollout_id": np.repeat(np.array(list(state.rewards_to_go)), lengths),
        "position": np.concatenate([np.arange(length) for length in lengths]),
    }
    joined = np.concatenate(list(state.rewards_to_go.values()), axis=1)
    return [
        pl.DataFrame({**keys, "teacher": teacher, "reward": joined[t]}).filter(pl.col("reward").is_finite())
        for t, teacher in enumerate(state.scored_teachers)
    ]
