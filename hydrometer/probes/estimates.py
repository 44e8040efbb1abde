"""Means over tokens and correlations, with 95 % intervals over questions, as they stand in `summary.json`.

A mean over tokens counts every token once, as the metrics of a training step do; its interval deletes one question at a
time, since the tokens of a question are not independent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.analyses.correlation import Nodes, correlation_copies, jackknife_correlation
from hydrometer.alignment.entries import NO_VALUE, finite, why_no_interval
from hydrometer.alignment.intervals import SHARE, Jackknife, jackknife
from hydrometer.evaluation.statistics import Estimate, estimate_difference, estimate_share

SHARES = frozenset({"overlap_ratio", "student_overlap_mass", "teacher_overlap_mass", "is_preferred", "is_low_density"})
"""Columns that lie within [0, 1]."""


def estimate_tokens(frame: pl.DataFrame, columns: Mapping[str, pl.Expr]) -> dict[str, dict[str, Any]]:
    """Mean over tokens of each expression, by name; tokens where it is null are left out."""
    found = {}
    for name, column in columns.items():
        _, sums = sum_by_question(frame, column)
        limits = SHARE if name in SHARES else None
        found[name] = describe_estimate(jackknife(mean_over_tokens, sums, sums[:, 1] > 0, limits=limits))
    return found


def sum_by_question(frame: pl.DataFrame, column: pl.Expr) -> tuple[list[str], Float[np.ndarray, "question 2"]]:
    """Ids of the questions, and of each the sum and the number of its tokens at which the column is known."""
    sums = frame.group_by("question_id").agg(column.sum().alias("sum"), column.count().alias("count"))
    sums = sums.sort("question_id")
    return sums["question_id"].to_list(), sums.select("sum", "count").cast(pl.Float64).to_numpy()


def mean_over_tokens(sums: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    """From sum and number; NaN without a token."""
    known = sums[..., 1] > 0
    return np.divide(sums[..., 0], sums[..., 1], out=np.full(known.shape, np.nan), where=known)


def estimate_trend(
    values: Float[np.ndarray, " point"], depths: Float[np.ndarray, " point"], question_ids: list[str]
) -> dict[str, Any]:
    """Spearman correlation of values with depths, one point per question and depth."""
    numbers = {question_id: number for number, question_id in enumerate(dict.fromkeys(question_ids))}
    question = np.array([numbers[question_id] for question_id in question_ids], dtype=np.int64)
    nodes = Nodes(np.stack([values, depths]), question, len(numbers), np.zeros(len(values), dtype=np.int64))
    result = jackknife_correlation(correlation_copies(nodes, "spearman").overall, nodes)
    return describe_estimate(result, (0,))


def share_of(frame: pl.DataFrame, column: str) -> Estimate:
    """Mean over questions of the share of their responses for which the column is true."""
    means = frame.group_by("question_id").agg(pl.col(column).cast(pl.Float64).mean()).sort("question_id")
    return estimate_share(means[column].to_numpy())


def paired_difference(first: pl.DataFrame, second: pl.DataFrame, column: str) -> Estimate:
    """Mean over questions of first minus second, over the questions that both have."""
    means = [one.group_by("question_id").agg(pl.col(column).cast(pl.Float64).mean()) for one in (first, second)]
    joined = means[0].join(means[1], on="question_id", suffix="_second").drop_nulls().sort("question_id")
    return estimate_difference((joined[column] - joined[f"{column}_second"]).to_numpy())


def describe_estimate(result: Jackknife, place: tuple[int, ...] = ()) -> dict[str, Any]:
    """With the names of `Estimate`, but its value may be null."""
    value, low, high = (finite(part[place]) for part in (result.value, result.low, result.high))
    count = int(result.n_questions[place])
    if low is None or high is None:
        reason = NO_VALUE if value is None else why_no_interval(value, count)
        return {"value": value, "low": None, "high": None, "n_questions": count, "reason": reason}
    return {"value": value, "low": low, "high": high, "n_questions": count, "reason": None}
