"""How likely a teacher finds what the student writes, and where that changes along a response.

At token t of a response y, with q the teacher and p the student (arXiv:2605.11182, its script of off-policyness):

    teacher_nll     -log q(y_t)                               nats
    log_ratio       log q(y_t) - log p(y_t)                   nats
    is_preferred    q(y_t) > p(y_t)                           share of tokens
    is_low_density  -(1 / t) sum_{s <= t} log q(y_s) > limit  share of prefixes

Positions are told twice: in tokens (the bins of docs/metrics.md; the later ones hold long responses only) and in
quarters of the response (which hold all of them).
"""

from itertools import pairwise
from typing import Any

import polars as pl

from hydrometer.dynamics import build_bin_starts
from hydrometer.probes.estimates import estimate_tokens, paired_difference

_QUARTERS = 4
_COLUMNS = ("teacher_nll", "log_ratio", "is_preferred", "is_low_density")
_BY_POSITION = ("teacher_nll", "is_low_density")


def describe_likelihood(tokens: pl.DataFrame, low_density: float, max_response_tokens: int) -> dict[str, Any]:
    """Means over tokens, overall and by position, of one teacher.

    Args:
        tokens: its rows of `tokens.parquet`.
        low_density: nats per token above which a prefix counts as one of low density.
        max_response_tokens: decides the bins.
    """
    tokens = _add_columns(tokens, low_density)
    starts = build_bin_starts(max_response_tokens)
    place = pl.col("position")
    bins: list[tuple[int, int | None, pl.Expr]] = [
        (low, high, place.is_between(low, high - 1)) for low, high in pairwise(starts)
    ]
    bins.append((starts[-1], None, place >= starts[-1]))
    by_tokens = [
        {"from": low, "to": high} | _estimate(inside, _BY_POSITION)
        for low, high, is_inside in bins
        if not (inside := tokens.filter(is_inside)).is_empty()
    ]
    by_quarter = [
        {"quarter": number + 1} | _estimate(inside, _BY_POSITION)
        for number in range(_QUARTERS)
        if not (inside := tokens.filter(quarter=number)).is_empty()
    ]
    first, last = (tokens.filter(quarter=number) for number in (0, _QUARTERS - 1))
    rises = {name: paired_difference(last, first, name).describe() for name in _BY_POSITION}
    return _estimate(tokens, _COLUMNS) | {"by_tokens": by_tokens, "by_quarter": by_quarter, "last_minus_first": rises}


def _add_columns(tokens: pl.DataFrame, low_density: float) -> pl.DataFrame:
    logprob, place = pl.col("teacher_logprob"), pl.col("position")
    mean = logprob.cum_sum().over("question_id", "sample", order_by="position") / (place + 1)
    return tokens.with_columns(
        (-logprob).alias("teacher_nll"),
        (logprob - pl.col("student_logprob")).alias("log_ratio"),
        (logprob > pl.col("student_logprob")).cast(pl.Float64).alias("is_preferred"),
        (mean < -low_density).cast(pl.Float64).alias("is_low_density"),
        (place * _QUARTERS // pl.col("response_tokens")).alias("quarter"),
    )


def _estimate(tokens: pl.DataFrame, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return estimate_tokens(tokens, {name: pl.col(name) for name in names})
