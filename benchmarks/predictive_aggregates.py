"""What the study's scores say where contexts of one question are replaced by what a student can learn of them.

None of this was in the design: it was made when all gains were known.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from benchmarks.predictive_cells import CELLS, PRIMARY, PRIVATE, SECOND
from benchmarks.predictive_results import Gain, trained_scores
from benchmarks.study_tables import markdown_table
from hydrometer.evaluation.wording import points


def replace_private(scores: pl.DataFrame, aggregates: pl.DataFrame) -> pl.DataFrame:
    """The study's scores with those of aggregates for teachers that see a context of one question."""
    others = scores.filter(~pl.col("teacher").is_in(PRIVATE))
    return pl.concat([others, aggregates.select(scores.columns)])


def describe_aggregates(
    gains: Sequence[Gain], values: pl.DataFrame, learnable: pl.DataFrame, scores: pl.DataFrame, aggregates: pl.DataFrame
) -> str:
    """A row per cell with a context of one question: what it is worth to who is told, and to who is not."""
    replaced = replace_private(scores, aggregates)
    sums, cosines = ([trained_scores(table, name) for table in (scores, replaced)] for name in (PRIMARY, SECOND))
    rows = []
    for place, cell in enumerate(CELLS):
        if cell.teacher not in PRIVATE:
            continue
        known = [_difference(table, cell.block, cell.teacher) for table in (values, learnable)]
        said = [f"{_number(pair[0][place])}, {_number(pair[1][place])}" for pair in (sums, cosines)]
        rows.append([cell.block, f"`{cell.teacher}`", points(gains[place].estimate.describe()), *known, *said])
    head = ["block", "context", "gain of training", "worth, told", "worth of its aggregate"]
    return markdown_table([*head, "path sum: told, aggregate", "pooled cosine: told, aggregate"], rows)


def _difference(values: pl.DataFrame, block: str, teacher: str) -> str:
    row = values.row(by_predicate=(pl.col("block") == block) & (pl.col("teacher") == teacher), named=True)
    return f"{row['difference']:+.2f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"


def _number(value: float) -> str:
    return "null" if np.isnan(value) else f"{value:+.2f}"
