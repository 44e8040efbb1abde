"""Cosine and signal against depth and against how far the teacher is from the student, in bins of nodes.

    mean of a bin = sum_i w_i x_i / sum_i w_i over its nodes i, w = path_weight x node_weight
    95 %          = mean +- t_(Q-1) sqrt((Q - 1) / Q  sum_q (mean without question q - mean)^2)

The interval deletes one of the bin's Q questions at a time; below 5 questions there is none. Bins of depth have fixed
ends; those of a distance hold a fifth of the nodes each, for all arms of the run together.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import stats

from hydrometer.report.figures import Figure
from hydrometer.report.files import RunFiles
from hydrometer.report.numbers import format_number, format_unit
from hydrometer.types import STUDENT

FEWEST_QUESTIONS = 5
_NODE = ["question_id", "rollout_id", "position", "continuation"]
_BIN = ["objective", "teacher", "bin"]
_VALUES = {"cosine": "cosine", "signal": "rate", "advantage": "rate"}
_QUANTILES = (0.2, 0.4, 0.6, 0.8)
_COLUMNS = (
    "by",
    "value of",
    "objective",
    "teacher",
    "x",
    "value",
    "low",
    "high",
    "nodes",
    "questions",
    "unit",
    "scale",
    "hover",
)


class Predictor(NamedTuple):
    """What nodes are put into bins by."""

    column: str
    label: str
    ends: tuple[float, ...] | None
    """Inner ends of the bins; None: quantiles."""
    scale: str = "linear"
    """Of its axis: `linear` or `log`."""


DEPTH = (
    Predictor("depth_frac", "share of the response", (0.2, 0.4, 0.6, 0.8)),
    Predictor("position", "position in tokens", (8, 16, 32, 64, 128, 256, 512, 1024)),
)
DISTANCE = (
    Predictor("reverse_kl_nats", "KL(student ‖ teacher), nats", None, "log"),
    Predictor("l2", "L2 distance of p and q", None, "log"),
    Predictor("distribution_cosine", "cosine of p and q", None),
)


def binned_figures(files: RunFiles) -> list[Figure]:
    """Alignment by depth and by distance; none where no node was measured."""
    weights = files.nodes.select(*_NODE, (pl.col("path_weight") * pl.col("node_weight")).alias("weight"))
    frame = files.alignment.filter(pl.col("continuation") == STUDENT).join(weights, on=_NODE, how="left")
    if frame.is_empty():
        return []
    return [
        _figure(frame, DEPTH, "depth", "Alignment by depth", "Where in the response a teacher helps."),
        _figure(
            frame,
            DISTANCE,
            "distance",
            "Alignment against distance from the student",
            "Whether a teacher helps more where it differs more; each dot holds a fifth of all nodes.",
        ),
    ]


def _figure(frame: pl.DataFrame, predictors: Sequence[Predictor], key: str, title: str, note: str) -> Figure:
    rows = [list(row) for predictor in predictors for row in _rows(frame, predictor)]
    return Figure(
        key=key,
        title=title,
        note=f"{note} Means of the nodes in each bin, with 95 % over questions (none below {FEWEST_QUESTIONS}).",
        chart={
            "kind": "lines",
            "x": "x",
            "y": "value",
            "low": "low",
            "high": "high",
            "series": "teacher",
            "unit": "unit",
            "xLabelColumn": "by",
            "dots": True,
            "zero": True,
        },
        columns=_COLUMNS,
        rows=rows,
        filters=("by", "value of", "objective"),
    )


def _rows(frame: pl.DataFrame, predictor: Predictor) -> Iterator[tuple[Any, ...]]:
    known = frame.drop_nulls(predictor.column)
    if known.is_empty():
        return
    values = known[predictor.column].to_numpy().astype(np.float64)
    ends = np.quantile(values, _QUANTILES) if predictor.ends is None else np.asarray(predictor.ends)
    middle, weight = pl.col(predictor.column), pl.col("weight")
    placed = known.with_columns(pl.Series("bin", np.digitize(values, ends)))
    for name, unit in _VALUES.items():
        sums = (
            placed.drop_nulls(name)
            .group_by(*_BIN, "question_id")
            .agg((weight * pl.col(name)).sum().alias("sum"), weight.sum(), middle.sum().alias("middle"), pl.len())
            .filter(pl.col("weight") > 0)
            .sort(*_BIN, "question_id")
        )
        for (objective, teacher, _), rows in sums.partition_by(*_BIN, as_dict=True).items():
            nodes = int(rows["len"].sum())
            x = float(rows["middle"].sum()) / nodes
            value, low, high = clustered_mean(rows["sum"].to_numpy(), rows["weight"].to_numpy())
            hover = (
                f"{teacher}: mean {name} {format_unit(value, unit)} "
                f"{'no interval' if low is None else f'[{format_unit(low, unit)}, {format_unit(high, unit)}]'}\n"
                f"{predictor.label}: mean {format_number(x)}\n{nodes:,} nodes, {rows.height} questions"
            )
            counts = (nodes, rows.height, unit, predictor.scale, hover)
            yield (predictor.label, name, objective, teacher, x, value, low, high, *counts)


def clustered_mean(
    sums: Float[np.ndarray, " question"], weights: Float[np.ndarray, " question"]
) -> tuple[float, float | None, float | None]:
    """Weighted mean and its two ends (None below `FEWEST_QUESTIONS`) from every question's sum and positive weight."""
    mean = float(sums.sum() / weights.sum())
    n = len(sums)
    if n < FEWEST_QUESTIONS:
        return mean, None, None
    without = (sums.sum() - sums) / (weights.sum() - weights)
    spread = math.sqrt((n - 1) / n * float(((without - mean) ** 2).sum()))
    half = float(stats.t.ppf(0.975, n - 1)) * spread
    return mean, mean - half, mean + half
