"""How expected success changes when whole responses are tilted towards a teacher: what given rollouts can tell.

    p_e(y) = p(y)^(1-e) q(y)^e / Z_e = p(y) exp(e r(y)) / Z_e,     r(y) = sum_t log q(y_t | y_<t) - log p(y_t | y_<t)
    J(e)   = sum_y p_e(y) c(y),     c(y) = 1 where y is correct
    dJ/de at 0 = E_p[c r] - E_p[c] E_p[r] = Cov_p(c, r)

because d log p_e / de = r - d log Z_e / de, and the last term is E_p[r] at e = 0. The covariance of a question's
rollouts with n - 1 below is unbiased for it; questions count equally, those without both outcomes with their 0. Only
rollouts drawn from p at the prompt may enter: no branch is needed, and nothing is said about any single token.

`auroc` is, within a question, the share of pairs (correct, incorrect) in which the correct response has the larger r
per token (ties count half), averaged over questions that have both outcomes.

    rows = sequence_tilt(log_ratios)        # the table `log_ratios`
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from hydrometer.alignment.entries import describe
from hydrometer.alignment.intervals import SHARE, Jackknife, jackknife, mean_of_sums

FEW_ROLLOUTS = "no_question_with_two_scored_rollouts"
ONE_OUTCOME = "no_question_with_both_outcomes"


def sequence_tilt(log_ratios: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per teacher; none where no response was scored.

    Args:
        log_ratios: question_id, rollout_id, teacher, tokens, log_ratio_sum (nats; null where p = 0 at a
            token), correct.

    Returns:
        `derivative` (success per unit of e) and `auroc` as estimates with intervals over questions; `n_rollouts` that
        were used and `n_unknown` that were not because their sum is null.
    """
    teachers = log_ratios["teacher"].unique().sort().to_list()
    return [_row(teacher, log_ratios.filter(pl.col("teacher") == teacher)) for teacher in teachers]


def has_tilt(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some question speaks: both outcomes among the scored responses of one question."""
    return any(row["auroc"]["value"] is not None for row in rows)


def _row(teacher: str, rows: pl.DataFrame) -> dict[str, Any]:
    known = rows.filter(pl.col("log_ratio_sum").is_not_null()).sort("question_id", "rollout_id")
    groups = known.partition_by("question_id", maintain_order=True)
    covariances = np.array([_covariance(group) for group in groups])
    aurocs = np.array([_auroc(group) for group in groups])
    return {
        "teacher": teacher,
        "derivative": describe(_average(covariances), reason=FEW_ROLLOUTS),
        "auroc": describe(_average(aurocs, limits=SHARE), reason=ONE_OUTCOME),
        "n_rollouts": known.height,
        "n_unknown": rows.height - known.height,
    }


def _covariance(group: pl.DataFrame) -> float:
    """Of outcome and log-ratio, n - 1 below; NaN for a single rollout."""
    if group.height < 2:
        return float("nan")
    outcome = group["correct"].cast(pl.Float64).to_numpy()
    return float(np.cov(outcome, group["log_ratio_sum"].to_numpy())[0, 1])


def _auroc(group: pl.DataFrame) -> float:
    """Share of pairs that are in order; NaN without a pair."""
    per_token = (group["log_ratio_sum"] / group["tokens"]).to_numpy()
    is_correct: Bool[np.ndarray, " rollout"] = group["correct"].to_numpy()
    gaps = per_token[is_correct][:, None] - per_token[~is_correct][None, :]
    return float((0.5 * (1.0 + np.sign(gaps))).mean()) if gaps.size else float("nan")


def _average(values: Float[np.ndarray, " question"], *, limits: tuple[float, float] | None = None) -> Jackknife:
    """Mean over the questions where the value is defined, with its jackknife."""
    has_value = np.isfinite(values)
    sums = np.stack([has_value.astype(np.float64), np.where(has_value, values, 0.0)], axis=-1)
    return jackknife(mean_of_sums, sums, has_value, limits=limits)
