"""What the study's small tables say: the gain of every cell, and its scores.

The tables and their columns are those of `predictive_gather`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from benchmarks.predictive_cells import CELLS, Cell
from hydrometer.evaluation.comparison import pool_seeds
from hydrometer.evaluation.statistics import Estimate

TABLES = ("answers", "scores", "splits", "values", "tokens", "aggregates", "learnable")
BySeed = Float[np.ndarray, "seed question"]


class Gain(NamedTuple):
    """What training in one cell brought."""

    cell: Cell
    before: float
    seeds: int
    estimate: Estimate
    """For other seeds and questions; with one seed for other questions."""

    @property
    def is_told(self) -> bool:
        """Whether it was told from 0."""
        return self.estimate.low is not None and (self.estimate.low > 0.0 or (self.estimate.high or 0.0) < 0.0)


def read_results(results: Path) -> dict[str, pl.DataFrame]:
    """The tables that are there."""
    paths = {name: results / f"{name}.parquet" for name in TABLES}
    return {name: pl.read_parquet(path) for name, path in paths.items() if path.exists()}


def whole_seeds(answers: pl.DataFrame) -> list[int]:
    """Seeds that every cell has."""
    cells = answers.select("block", "teacher", "objective", "seed").unique().group_by("seed").len()
    return sorted(cells.filter(len=len(CELLS))["seed"])


def estimate_gains(answers: pl.DataFrame) -> list[Gain]:
    """Of every cell, over the seeds that all cells have; in the order of `CELLS`."""
    seeds = whole_seeds(answers)
    gains = []
    for cell in CELLS if seeds else ():
        mine = answers.filter(pl.col("seed").is_in(seeds), **cell._asdict()).sort("seed", "question")
        before, after = (mine[name].to_numpy().reshape(len(seeds), -1) for name in ("before", "after"))
        gains.append(Gain(cell, float(before.mean()), len(seeds), estimate_gain(after - before)))
    return gains


def estimate_gain(differences: BySeed) -> Estimate:
    """Paired by question; over seeds too where there are several."""
    pooled = pool_seeds(differences)
    return pooled.both if pooled.both.low is not None else pooled.questions


def trained_scores(scores: pl.DataFrame, name: str) -> Float[np.ndarray, " cell"]:
    """One score (`SCORE` or `SCORE, WHO`) in every cell; NaN where it is null."""
    score, _, who = name.partition(", ")
    mine = scores.filter(pl.col("score") == score, pl.col("continuation").eq_missing(pl.lit(who or None)))
    found = {(row["block"], row["teacher"], row["objective"]): row["value"] for row in mine.iter_rows(named=True)}
    values = [found[cell] for cell in CELLS]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def score_names(scores: pl.DataFrame) -> list[str]:
    """Every score as `trained_scores` takes it."""
    pairs = scores.select("score", "continuation").unique().sort("continuation", "score", nulls_last=True)
    return [", ".join(filter(None, pair)) for pair in pairs.iter_rows()]


def read_spent(results: Path) -> list[dict[str, Any]]:
    """CPU seconds by kind of work."""
    return pl.read_csv(results / "costs.csv").to_dicts()
