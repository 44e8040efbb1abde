"""`summary.json` of an evaluation, from its table: what one model is worth, and how two differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hydrometer.evaluation.comparison import compare
from hydrometer.evaluation.statistics import Estimate, estimate_mean, estimate_share, pass_at, pass_sizes
from hydrometer.types import Grading

_UNPARSED_WORTH_SAYING = 0.1
_TRUNCATED_WORTH_SAYING = 0.1
_DIFFERENCE_WORTH_SAYING = 0.05
"""Shares of all responses."""


def accuracy(table: pl.DataFrame) -> Estimate:
    """avg@k: the mean over questions of the share of correct responses."""
    return _share(table, "correct")


def pass_rates(table: pl.DataFrame) -> dict[int, Estimate]:
    """pass@K for K = 1, 2, 4 ... up to the fewest responses that a question has."""
    counts = table.group_by("question_id").agg(pl.col("correct").sum().cast(pl.Int64), pl.len().cast(pl.Int64))
    counts = counts.sort("question_id")
    correct, samples = counts["correct"].to_numpy(), counts["len"].to_numpy()
    return {k: estimate_share(pass_at(correct, samples, k)) for k in pass_sizes(int(samples.min()))}


def describe_model(table: pl.DataFrame) -> dict[str, Any]:
    """Accuracy, pass@K and what stands behind them, of one model's responses; every entry has its interval."""
    return {
        "accuracy": accuracy(table).describe(),
        "pass_at": {str(k): estimate.describe() for k, estimate in pass_rates(table).items()},
        "strict_accuracy": _share(table, "correct_strict").describe(),
        "relaxed_accuracy": _share(table, "correct_relaxed").describe(),
        "parsed_share": _share(table, "parsed").describe(),
        "truncated_share": _share(table, "truncated").describe(),
        "response_tokens": estimate_mean(_question_means(table, "tokens")).describe(),
    }


def describe_comparison(first: pl.DataFrame, second: pl.DataFrame) -> dict[str, Any]:
    """First minus second; the gradings too, since a model may only have learnt the form."""
    found = compare(first, second).describe()
    for grading in ("strict", "relaxed"):
        column = pl.col(f"correct_{grading}").alias("correct")
        found[f"{grading}_difference"] = compare(
            first.with_columns(column), second.with_columns(column)
        ).difference.describe()
    return found


def describe_warnings(table: pl.DataFrame, specs: Mapping[str, str], grading: Grading) -> list[str]:
    """What may make an accuracy say something else than it seems to, by model."""
    notes = []
    for name, spec in specs.items():
        rows = table.filter(model=name)
        count, cut = rows.height, int(rows["truncated"].sum())
        unread = count - int(rows["parsed"].sum())
        differ = int((rows["correct_strict"] != rows["correct_relaxed"]).sum())
        if cut > _TRUNCATED_WORTH_SAYING * count:
            notes.append(
                f"{cut} of {count} responses of {spec} hit the length limit and mostly count as wrong; raise "
                "--max-response-tokens if they would have gone on to an answer."
            )
        if unread > _UNPARSED_WORTH_SAYING * count:
            notes.append(f"No answer could be read from {unread} of {count} responses of {spec}; they count as wrong.")
        if differ > _DIFFERENCE_WORTH_SAYING * count:
            notes.append(
                f"Strict and relaxed grading differ on {differ} of {count} responses of {spec}: it often writes the "
                f"answer in another form than is asked for. {grading.capitalize()} grading was counted (--grading)."
            )
    return notes


def _share(table: pl.DataFrame, column: str) -> Estimate:
    return estimate_share(_question_means(table, column))


def _question_means(table: pl.DataFrame, column: str) -> np.ndarray:
    means = table.group_by("question_id").agg(pl.col(column).cast(pl.Float64).mean()).sort("question_id")
    return means[column].to_numpy()
