"""Columns and types of every table of a run folder, keys first: `TABLES` of a diagnosis, `SCHEMAS` of every run.

`teacher_scores` carries one more Float64 column `field:OBJECTIVE` per objective of the run (the full-vocabulary ascent
field at the candidate), so that `alignment` can be recomputed from `nodes`, `candidates` and `teacher_scores` alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

SCHEMA_VERSION = 1

_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_PROBED: dict[str, Any] = {
    "question_id": pl.String,
    "sample": pl.Int64,
    "position": pl.Int64,
    "teacher": pl.String,
    "response_tokens": pl.Int64,
    "token_id": pl.Int64,
}
_NODE: dict[str, Any] = {"question_id": pl.String, "rollout_id": pl.Int64, "position": pl.Int64}

TABLES: dict[str, dict[str, Any]] = {
    "questions": {
        "question_id": pl.String,
        "task": pl.String,
        "prompt": pl.String,
        "answer": pl.String,
        "rollouts": pl.Int64,
        "correct": pl.Int64,
        "success_rate": pl.Float64,
        "success_low": pl.Float64,
        "success_high": pl.Float64,
        "informative": pl.Boolean,
        "unparsed": pl.Int64,
        "correct_strict": pl.Int64,
        "correct_relaxed": pl.Int64,
        "messages": _MESSAGES,
    },
    "rollouts": {
        "question_id": pl.String,
        "rollout_id": pl.Int64,
        "kind": pl.String,
        "model": pl.String,
        "parent_rollout_id": pl.Int64,
        "forced_tokens": pl.Int64,
        "token_ids": pl.List(pl.Int64),
        "text": pl.String,
        "score": pl.Float64,
        "correct": pl.Boolean,
        "truncated": pl.Boolean,
        "parsed": pl.Boolean,
        "correct_strict": pl.Boolean,
        "correct_relaxed": pl.Boolean,
    },
    "nodes": {
        **_NODE,
        "continuation": pl.String,
        "token_id": pl.Int64,
        "token": pl.String,
        "path_correct": pl.Boolean,
        "path_weight": pl.Float64,
        "node_weight": pl.Float64,
        "noise_correction": pl.Float64,
        "kept_candidates": pl.Int64,
        "kept_student_mass": pl.Float64,
        "student_entropy_nats": pl.Float64,
        "value": pl.Float64,
        "success_gap": pl.Float64,
        "ideal_norm": pl.Float64,
        "eligible": pl.Boolean,
        "reason": pl.String,
    },
    "candidates": {
        **_NODE,
        "token_id": pl.Int64,
        "continuation": pl.String,
        "token": pl.String,
        "student_logprob": pl.Float64,
        "student_rank": pl.Int64,
        "visits": pl.Int64,
        "successes": pl.Int64,
        "visits_a": pl.Int64,
        "successes_a": pl.Int64,
        "visits_b": pl.Int64,
        "successes_b": pl.Int64,
        "success_rate": pl.Float64,
        "success_variance": pl.Float64,
        "success_low": pl.Float64,
        "success_high": pl.Float64,
        "estimator": pl.String,
        "kept": pl.Boolean,
    },
    "teacher_scores": {
        **_NODE,
        "token_id": pl.Int64,
        "teacher": pl.String,
        "teacher_logprob": pl.Float64,
        "teacher_rank": pl.Int64,
        "reward_to_go": pl.Float64,
        "reward_variance": pl.Float64,
        "reward_success_covariance": pl.Float64,
    },
    "token_scores": {
        **_NODE,
        "teacher": pl.String,
        "objective": pl.String,
        "field_mean": pl.Float64,
        "full_norm_squared": pl.Float64,
        "reverse_kl_nats": pl.Float64,
        "l2": pl.Float64,
        "distribution_cosine": pl.Float64,
        "total_variation": pl.Float64,
        "teacher_entropy_nats": pl.Float64,
        "overlap_ratio": pl.Float64,
        "student_overlap_mass": pl.Float64,
        "teacher_overlap_mass": pl.Float64,
        "student_topk_mass": pl.Float64,
        "teacher_topk_mass": pl.Float64,
    },
    "log_ratios": {
        "question_id": pl.String,
        "rollout_id": pl.Int64,
        "teacher": pl.String,
        "tokens": pl.Int64,
        "log_ratio_sum": pl.Float64,
        "correct": pl.Boolean,
    },
    "contexts": {
        "question_id": pl.String,
        "teacher": pl.String,
        "prompt": pl.String,
        "demo_rollout_ids": pl.List(pl.Int64),
        "demos_by": pl.String,
        "summariser": pl.String,
        "skipped": pl.Boolean,
        "reason": pl.String,
        "messages": _MESSAGES,
        "instances": pl.List(pl.Struct({"weight": pl.Float64, "prompt": pl.String})),
    },
    "context_rollouts": {
        "question_id": pl.String,
        "teacher": pl.String,
        "rollout_id": pl.Int64,
        "text": pl.String,
        "tokens": pl.Int64,
        "correct": pl.Boolean,
        "truncated": pl.Boolean,
        "correct_strict": pl.Boolean,
        "correct_relaxed": pl.Boolean,
    },
    "scores": {
        "teacher": pl.String,
        "objective": pl.String,
        "continuation": pl.String,
        "score": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n": pl.Int64,
        "reason": pl.String,
    },
    "advice": {
        **_NODE,
        "continuation": pl.String,
        "teacher": pl.String,
        "objective": pl.String,
        "prefix_ids": pl.List(pl.Int64),
        "token_id": pl.Int64,
        "advice": pl.String,
        "weight": pl.Float64,
        "predicted_signal": pl.Float64,
        "predicted_error": pl.Float64,
    },
    "alignment": {
        **_NODE,
        "teacher": pl.String,
        "objective": pl.String,
        "continuation": pl.String,
        "path_correct": pl.Boolean,
        "cosine": pl.Float64,
        "signal": pl.Float64,
        "inner_product": pl.Float64,
        "ideal_norm": pl.Float64,
        "direction_norm": pl.Float64,
        "direction_share": pl.Float64,
        "advantage": pl.Float64,
        "reverse_kl_nats": pl.Float64,
        "l2": pl.Float64,
        "distribution_cosine": pl.Float64,
        "depth_frac": pl.Float64,
        "student_topk_mass": pl.Float64,
        "teacher_topk_mass": pl.Float64,
        "reason": pl.String,
    },
}

SCHEMAS: dict[str, dict[str, Any]] = TABLES | {
    "evaluation": {
        "step": pl.Int64,
        "model": pl.String,
        "question_id": pl.String,
        "sample": pl.Int64,
        "correct": pl.Boolean,
        "tokens": pl.Int64,
        "truncated": pl.Boolean,
        "parsed": pl.Boolean,
        "correct_strict": pl.Boolean,
        "correct_relaxed": pl.Boolean,
        "text": pl.String,
    },
    "probe_responses": {
        "question_id": pl.String,
        "writer": pl.String,
        "start": pl.String,
        "sample": pl.Int64,
        "prefix_tokens": pl.Int64,
        "tokens": pl.Int64,
        "correct": pl.Boolean,
        "parsed": pl.Boolean,
        "truncated": pl.Boolean,
        "correct_strict": pl.Boolean,
        "correct_relaxed": pl.Boolean,
        "token_ids": pl.List(pl.Int64),
        "text": pl.String,
    },
    "probe_tokens": {
        **_PROBED,
        "student_logprob": pl.Float64,
        "teacher_logprob": pl.Float64,
        "student_entropy": pl.Float64,
        "teacher_entropy": pl.Float64,
        "reverse_kl": pl.Float64,
        "forward_kl": pl.Float64,
        "overlap_ratio": pl.Float64,
        "student_overlap_mass": pl.Float64,
        "teacher_overlap_mass": pl.Float64,
        "overlap_token_advantage": pl.Float64,
    },
    "probe_disagreement": {
        **_PROBED,
        "contexts": pl.Int64,
        "disagreement": pl.Float64,
        "student_kl": pl.Float64,
    },
}

KEYS: dict[str, tuple[str, ...]] = {
    "questions": ("question_id",),
    "rollouts": ("question_id", "rollout_id"),
    "nodes": (*_NODE, "continuation"),
    "candidates": (*_NODE, "token_id", "continuation"),
    "teacher_scores": (*_NODE, "token_id", "teacher"),
    "token_scores": (*_NODE, "teacher", "objective"),
    "log_ratios": ("question_id", "rollout_id", "teacher"),
    "contexts": ("question_id", "teacher"),
    "context_rollouts": ("question_id", "teacher", "rollout_id"),
    "scores": ("teacher", "objective", "continuation", "score"),
    "advice": (*_NODE, "continuation"),
    "alignment": (*_NODE, "teacher", "objective", "continuation"),
    "evaluation": ("step", "model", "question_id", "sample"),
    "probe_responses": ("question_id", "writer", "start", "sample"),
    "probe_tokens": ("question_id", "sample", "position", "teacher"),
    "probe_disagreement": ("question_id", "sample", "position", "teacher"),
}


def build_table(
    name: str, rows: pl.DataFrame | Sequence[Mapping[str, Any]], *, extra: Iterable[str] = ()
) -> pl.DataFrame:
    """Rows cast to the schema of table `name` (plus Float64 columns `extra`), columns in order, sorted by key.

    NaN becomes null: a float of a table is finite or absent.

    Raises:
        ValueError: a column is missing from a row, a number is infinite, or a key comes twice.
        polars.exceptions.PolarsError: a column is missing or does not fit its type.
            (All of these are bugs, not user errors.)
    """
    schema = SCHEMAS[name] | dict.fromkeys(extra, pl.Float64)
    if isinstance(rows, pl.DataFrame):
        frame = rows
    else:
        for row in rows:
            if absent := schema.keys() - row.keys():
                raise ValueError(f"table {name}: a row lacks {', '.join(sorted(absent))}")
        frame = pl.DataFrame(rows, schema=schema, orient="row")
    floats = [column for column, dtype in schema.items() if dtype == pl.Float64]
    frame = frame.select(pl.col(column).cast(dtype) for column, dtype in schema.items())
    frame = frame.with_columns(pl.col(floats).fill_nan(None)).sort(KEYS[name])
    if infinite := [column for column in floats if frame[column].is_infinite().any()]:
        raise ValueError(f"table {name}: {', '.join(infinite)} holds an infinite number")
    if not frame.select(KEYS[name]).is_unique().all():
        raise ValueError(f"table {name}: two rows have the same {', '.join(KEYS[name])}")
    return frame
