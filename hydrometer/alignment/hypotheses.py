"""Paired tests over questions: exact Wilcoxon signed-rank tests, Holm's correction, and the least p they could give.

    W+ = sum of the mid-ranks of |x| over x > 0,   p = P(W+ at least as extreme) over all 2^n sign patterns
    Holm: p_(i) -> max over j <= i of min(1, (m - j + 1) p_(j))

With n non-zero differences no p below 2^(1 - n) can occur, which is printed beside each p: with six questions nothing
survives a family of two at 5 %. Ties and zeros are handled exactly (zeros are left out), unlike in the usual tables.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

_DIGITS = 12
"""Decimals of the largest difference that count: what is beyond them is rounding, neither a difference nor a tie."""
EXACT_UP_TO = 400
"""Beyond this many differences the normal limit is used."""


class SignedRank(NamedTuple):
    """Result of one paired test over questions."""

    n_questions: int
    """Non-zero differences."""
    median: float
    """Of all differences, zeros included; NaN without any."""
    p: float
    """Two-sided; NaN without a non-zero difference."""
    least_attainable_p: float


def signed_rank(differences: Float[np.ndarray, " question"]) -> SignedRank:
    """Exact two-sided Wilcoxon signed-rank test that the differences are symmetric about zero. NaNs are left out."""
    known = differences[np.isfinite(differences)]
    median = float(np.median(known)) if len(known) else float("nan")
    scale = np.abs(known).max(initial=0.0)
    relative = np.round(known / scale, _DIGITS) if scale else known
    moved = relative[relative != 0.0]
    count = len(moved)
    if not count:
        return SignedRank(0, median, float("nan"), 1.0)
    doubled = np.rint(2.0 * stats.rankdata(np.abs(moved))).astype(np.int64)
    positive = int(doubled[moved > 0.0].sum())
    extreme = min(positive, int(doubled.sum()) - positive)
    least = 2.0 ** (1 - count)
    if count > EXACT_UP_TO:
        deviation = np.sqrt((doubled.astype(np.float64) ** 2).sum() / 4.0)
        return SignedRank(
            count, median, float(2.0 * stats.norm.cdf((extreme - doubled.sum() / 2.0) / deviation)), least
        )
    return SignedRank(count, median, min(1.0, 2.0 * _lower_tail(doubled, extreme)), least)


def _lower_tail(ranks: np.ndarray, bound: int) -> float:
    """P(sum of the ranks with random signs <= bound), adding one rank at a time."""
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: len(chance) - rank]
        chance = 0.5 * (chance + shifted)
    return float(chance[: bound + 1].sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment within a family; NaN (no test) is passed through and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    running = 0.0
    for place, index in enumerate(known[np.argsort(p[known], kind="stable")]):
        running = max(running, min(1.0, (len(known) - place) * p[index]))
        adjusted[index] = running
    return adjusted.tolist()
