"""Columns of `nodes.parquet` from the candidates: what the student could gain at a node, and whether it is eligible.

    value = sum_k w_k S_k,   success_gap = max S - min S,   ideal_norm = |g|   over the kept candidates

A node is eligible for a cosine when it has at least two kept candidates whose success rates are not all equal
(arXiv 2605.10889, section 2). `noise_correction` is what sampling noise adds to |g|^2 in expectation (see `arrays`).

    nodes = complete_nodes(nodes, candidates)
"""

import numpy as np
import polars as pl

from hydrometer.alignment.arrays import (
    MIN_KEPT,
    NODE_KEYS,
    has_distinct_rates,
    ideal_direction,
    node_noise,
    pack_nodes,
    success_gap,
)

TOO_FEW_KEPT = "fewer_than_two_kept"
"""Reason of a node with fewer than two candidates that were visited often enough."""
NOT_CHOSEN = "not_chosen"
"""Reason of a node that a limit on analysed nodes left out."""
EQUAL_RATES = "equal_success_rates"
"""Reason of a node whose kept candidates all have the same success rate."""

COLUMNS = {
    "noise_correction": pl.Float64,
    "kept_candidates": pl.Int64,
    "kept_student_mass": pl.Float64,
    "value": pl.Float64,
    "success_gap": pl.Float64,
    "ideal_norm": pl.Float64,
    "eligible": pl.Boolean,
    "reason": pl.String,
}


def complete_nodes(nodes: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """Add the columns that depend on the counts to one row per path x position.

    `value` needs one kept candidate; the gap, the norm and the noise correction need two and are null below.

    Args:
        nodes: one row per path x position, keyed by `NODE_KEYS`, with `node_weight`; columns of the same names are
            replaced.
        candidates: `candidates.parquet`.
    """
    kept = pack_nodes(candidates, min_kept=1)
    is_single = kept.is_candidate.sum(-1) < MIN_KEPT

    def of_two(name: str, values: np.ndarray) -> pl.Series:
        return pl.Series(name, np.where(is_single, np.nan, values), dtype=pl.Float64, nan_to_null=True)

    measured = kept.keys.with_columns(
        pl.Series("kept_candidates", kept.is_candidate.sum(-1), dtype=pl.Int64),
        pl.Series("kept_student_mass", kept.mass, dtype=pl.Float64),
        pl.Series("value", (kept.weights * kept.rates).sum(-1), dtype=pl.Float64),
        of_two("noise_correction", node_noise(kept)),
        of_two("success_gap", success_gap(kept, kept.rates)),
        of_two("ideal_norm", np.sqrt((ideal_direction(kept) ** 2).sum(-1))),
        pl.Series("eligible", has_distinct_rates(kept) & ~is_single, dtype=pl.Boolean),
    )
    keys = list(NODE_KEYS)
    return (
        nodes.drop([name for name in COLUMNS if name in nodes.columns])
        .join(measured, on=keys, how="left", maintain_order="left")
        .with_columns(
            pl.col("kept_candidates").fill_null(0),
            pl.col("kept_student_mass").fill_null(0.0),
            pl.col("eligible").fill_null(value=False),
        )
        .with_columns(
            pl.when(pl.col("node_weight") == 0.0)
            .then(pl.lit(NOT_CHOSEN))
            .when(pl.col("kept_candidates") < MIN_KEPT)
            .then(pl.lit(TOO_FEW_KEPT))
            .when(~pl.col("eligible"))
            .then(pl.lit(EQUAL_RATES))
            .otherwise(None)
            .alias("reason")
        )
        .select(*[name for name in nodes.columns if name not in COLUMNS], *COLUMNS)
    )
