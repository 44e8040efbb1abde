"""Success columns of the candidates table, from the visit log alone.

Halves a and b alternate by counted rollout id within each candidate; rates and intervals are those of `rates`.

    candidates = add_success(candidates, tree.visit_log())
"""

import polars as pl

from hydrometer.success.rates import jeffreys_interval, success_rate, success_variance

CANDIDATE_KEY = ("question_id", "rollout_id", "position", "token_id")
COUNT_COLUMNS = ("visits", "successes", "visits_a", "successes_a", "visits_b", "successes_b")
ESTIMATOR = "counts"
"""Value of `estimator`: independent rollouts, successes / visits."""


def count_visits(visit_log: pl.DataFrame) -> pl.DataFrame:
    """Counts of every visited (path, position, token): `CANDIDATE_KEY` and `COUNT_COLUMNS`, sorted by key."""
    in_a = pl.int_range(pl.len()).over(CANDIDATE_KEY) % 2 == 0
    return (
        visit_log.sort(*CANDIDATE_KEY, "counted_rollout_id")
        .with_columns(in_a=in_a)
        .group_by(CANDIDATE_KEY)
        .agg(
            visits=pl.len(),
            successes=pl.col("correct").sum(),
            visits_a=pl.col("in_a").sum(),
            successes_a=(pl.col("correct") & pl.col("in_a")).sum(),
            visits_b=(~pl.col("in_a")).sum(),
            successes_b=(pl.col("correct") & ~pl.col("in_a")).sum(),
        )
        .with_columns(pl.col(COUNT_COLUMNS).cast(pl.Int64))
        .sort(CANDIDATE_KEY)
    )


def add_success(candidates: pl.DataFrame, visit_log: pl.DataFrame) -> pl.DataFrame:
    """Candidates with counts, success_rate, success_variance, success_low, success_high and estimator.

    A candidate that nobody visited has zero counts, a null rate and the interval [0, 1]; the variance is null below two
    visits. Visits to tokens that are not candidates are left out. Row order is kept.
    """
    counted = candidates.join(count_visits(visit_log), on=CANDIDATE_KEY, how="left", maintain_order="left")
    counted = counted.with_columns(pl.col(COUNT_COLUMNS).fill_null(0))
    successes, visits = counted["successes"].to_numpy(), counted["visits"].to_numpy()
    low, high = jeffreys_interval(successes, visits)
    return counted.with_columns(
        pl.Series("success_rate", success_rate(successes, visits), nan_to_null=True),
        pl.Series("success_variance", success_variance(successes, visits), nan_to_null=True),
        pl.Series("success_low", low),
        pl.Series("success_high", high),
        estimator=pl.lit(ESTIMATOR),
    )
