"""Which tokens to train on with one arm, and whether that advice is better than training on all of them.

    train      predicted signal > its standard error           skip   predicted signal < - its standard error
    undecided  in between, and wherever the advice below is not shown to be worth following

The rule is judged on questions it was not fitted to: `gain` is the mean signal of the nodes it would train on minus
that of all measured nodes, with an interval from deleting questions. Unless that interval lies above 0 every node is
`undecided`; unless the mean signal of the nodes it would skip lies below 0 none is skipped. Both intervals hold the
predictions fixed.

    table, entry = advise(summary, nodes=nodes, alignment=alignment, rollouts=rollouts)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool

from hydrometer.alignment.advice.rule import FEATURES, Nodes, Prediction, fit_rule, predict_out_of_fold
from hydrometer.alignment.arrays import NODE_KEYS
from hydrometer.alignment.entries import describe
from hydrometer.alignment.intervals import MIN_QUESTIONS, Jackknife, difference, jackknife, mean_of_sums
from hydrometer.artifacts import TABLES
from hydrometer.types import NO_TEACHER

TRAIN, SKIP, UNDECIDED = "train", "skip", "undecided"
WEIGHTS = {TRAIN: 1.0, SKIP: 0.0, UNDECIDED: 1.0}
FEW_FOR_A_RULE = 2 * MIN_QUESTIONS
"""Questions below which no rule is fitted."""
COLUMNS = (
    *("question_id", "rollout_id", "position", "continuation", "teacher", "objective"),
    *("prefix_ids", "token_id", "advice", "weight", "predicted_signal", "predicted_error"),
)


class Judgement(NamedTuple):
    """Out-of-fold signals and what they allow to be advised."""

    mean_all: Jackknife
    mean_train: Jackknife
    mean_skip: Jackknife
    gain: Jackknife
    proposal: np.ndarray
    """`train`, `skip` or `undecided` per node, by the predictions alone."""
    advice: np.ndarray
    """The same where following it is shown to be better."""


def judge(nodes: Nodes, prediction: Prediction) -> Judgement:
    """What the out-of-fold predictions are worth."""
    proposal = np.full(len(nodes.signal), UNDECIDED, dtype=object)
    proposal[prediction.signal > prediction.error] = TRAIN
    proposal[prediction.signal < -prediction.error] = SKIP
    everything, train, skip = (
        _mean_signal(nodes, chosen) for chosen in (np.ones(len(proposal), bool), proposal == TRAIN, proposal == SKIP)
    )
    gain = difference(train, everything)
    advice = np.full(len(proposal), UNDECIDED, dtype=object)
    if gain.low > 0.0 and train.low > 0.0:
        advice[proposal == TRAIN] = TRAIN
        if skip.high < 0.0:
            advice[proposal == SKIP] = SKIP
    return Judgement(everything, train, skip, gain, proposal, advice)


def _mean_signal(nodes: Nodes, chosen: Bool[np.ndarray, " node"]) -> Jackknife:
    sums = np.zeros((int(nodes.question.max(initial=-1)) + 1, 2))
    weight = nodes.weight * chosen
    np.add.at(sums, nodes.question, np.stack([weight, weight * nodes.signal], axis=1))
    return jackknife(mean_of_sums, sums, sums[:, 0] > 0.0)


def advise(
    summary: Mapping[str, Any], *, nodes: pl.DataFrame, alignment: pl.DataFrame, rollouts: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Advice for every measured node of the recommended arm (of the leading one where none is recommended).

    Args:
        summary: from `summarise`; uses ranking, recommendation and the oracle filter.
        nodes: `nodes.parquet`.
        alignment: `alignment.parquet`.
        rollouts: `rollouts.parquet`, for the prefixes.

    Returns:
        The rows of `advice.parquet`, and the entry `analyses.advice` of the summary.
    """
    arm = chosen_arm(summary)
    if arm is None:
        return _empty(), {"arm": None, "advised": False, "sentence": "No arm has a score, so there is no advice."}
    measured = _measured(arm, nodes, alignment)
    rows = measured.drop_nulls(FEATURES)
    questions = rows["question_id"].unique().sort().to_list()
    if len(questions) < FEW_FOR_A_RULE:
        sentence = f"{len(questions)} questions are too few to fit and judge a rule: {FEW_FOR_A_RULE} are needed."
        return _table(_undecided(measured), rollouts), {"arm": arm, "advised": False, "sentence": sentence}
    packed = _pack(rows, questions)
    prediction = predict_out_of_fold(packed)
    verdict = judge(packed, prediction)
    advised = rows.with_columns(
        pl.Series("advice", verdict.advice.tolist(), dtype=pl.String),
        pl.Series("predicted_signal", prediction.signal),
        pl.Series("predicted_error", prediction.error),
    )
    unknown = _undecided(measured.join(rows, on=list(NODE_KEYS), how="anti"))
    return _table(pl.concat([advised, unknown]), rollouts), _entry(arm, packed, verdict, _oracle(summary, arm))


def chosen_arm(summary: Mapping[str, Any]) -> dict[str, str] | None:
    """Teacher, objective and continuation of the recommended arm, else of the best ranked one with a score."""
    keys = ("teacher", "objective", "continuation")
    recommended = summary["recommendation"]
    if recommended is not None and recommended["teacher"] != NO_TEACHER:
        return {key: recommended[key] for key in keys}
    scored = [line for line in summary["ranking"] if line["teacher"] != NO_TEACHER and line["score"] is not None]
    return {key: scored[0][key] for key in keys} if scored else None


def _measured(arm: Mapping[str, str], nodes: pl.DataFrame, alignment: pl.DataFrame) -> pl.DataFrame:
    extra = nodes.select(*NODE_KEYS, "token_id", "path_weight", "node_weight", "student_entropy_nats")
    mine = alignment.filter(**arm).join(extra, on=list(NODE_KEYS))
    return mine.with_columns(
        pl.col("reverse_kl_nats").clip(0.0).sqrt().alias("sqrt_reverse_kl"),
        pl.col("position").cast(pl.Float64).log1p().alias("log_position"),
        (pl.col("path_weight") * pl.col("node_weight")).alias("node_weight"),
    ).sort(*NODE_KEYS)


def _undecided(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(UNDECIDED).alias("advice"),
        *(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("predicted_signal", "predicted_error")),
    )


def _pack(rows: pl.DataFrame, questions: list[str]) -> Nodes:
    place = {name: index for index, name in enumerate(questions)}
    return Nodes(
        features=rows.select(pl.col(name).cast(pl.Float64) for name in FEATURES).to_numpy(),
        signal=rows["signal"].to_numpy(),
        weight=rows["node_weight"].to_numpy(),
        question=np.array([place[name] for name in rows["question_id"]], dtype=np.int64),
    )


def _oracle(summary: Mapping[str, Any], arm: Mapping[str, str]) -> dict[str, Any] | None:
    for row in summary["analyses"].get("oracle_filter", []):
        if all(row[key] == value for key, value in arm.items()):
            return row["split"]["mean_signal_kept"]
    return None


def _entry(arm: Mapping[str, str], nodes: Nodes, verdict: Judgement, oracle: dict[str, Any] | None) -> dict[str, Any]:
    rule = fit_rule(nodes)
    counts = {name: int((verdict.advice == name).sum()) for name in (TRAIN, SKIP, UNDECIDED)}
    advised = counts[TRAIN] > 0
    return {
        "arm": dict(arm),
        "advised": advised,
        "sentence": _sentence(arm, verdict, advised, counts),
        "n_nodes": counts,
        "n_proposed": {name: int((verdict.proposal == name).sum()) for name in (TRAIN, SKIP, UNDECIDED)},
        "mean_signal": describe(verdict.mean_all),
        "mean_signal_train": describe(verdict.mean_train, reason="nothing_proposed"),
        "mean_signal_skip": describe(verdict.mean_skip, reason="nothing_proposed"),
        "mean_signal_oracle": oracle,
        "gain": describe(verdict.gain, reason="nothing_proposed"),
        "rule": {
            "features": list(FEATURES),
            "mean": rule.mean.tolist(),
            "scale": [float(scale) if np.isfinite(scale) else None for scale in rule.scale],
            "intercept": float(rule.coefficients[0]),
            "coefficients": rule.coefficients[1:].tolist(),
            "standard_errors": np.sqrt(np.diag(rule.covariance))[1:].tolist(),
            "covariance": rule.covariance.tolist(),
        },
    }


def _sentence(arm: Mapping[str, str], verdict: Judgement, advised: bool, counts: Mapping[str, int]) -> str:
    name = f"{arm['teacher']} with {arm['objective']}"
    if not advised:
        return (
            f"No tokens are singled out for {name}: a rule on outcome, divergence, entropy and depth, judged on "
            "questions it was not fitted to, chooses tokens no better than taking all of them. Train on all or none."
        )
    skipped = f"; skipping {counts[SKIP]}, which point the wrong way on average" if counts[SKIP] else ""
    return (
        f"Training with {name} on {counts[TRAIN]} of {len(verdict.advice)} measured tokens raises the mean signal from "
        f"{float(verdict.mean_all.value):+.4f} to {float(verdict.mean_train.value):+.4f} on questions the rule was not "
        f"fitted to{skipped}."
    )


def _table(rows: pl.DataFrame, rollouts: pl.DataFrame) -> pl.DataFrame:
    paths = rollouts.filter(kind="path").select("question_id", "rollout_id", "token_ids")
    return (
        rows.join(paths, on=["question_id", "rollout_id"])
        .with_columns(
            pl.col("token_ids").list.head(pl.col("position")).alias("prefix_ids"),
            pl.col("advice").replace_strict(WEIGHTS, return_dtype=pl.Float64).alias("weight"),
        )
        .select(COLUMNS)
        .sort("question_id", "rollout_id", "position")
    )


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema={name: TABLES["advice"][name] for name in COLUMNS})
