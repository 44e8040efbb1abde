"""Every score of every arm in one long table: what could foretell how well training with it goes.

Under each continuation, with effects e_n at the measured nodes n (two kept candidates or more) of weight W:

    pooled_cosine, mean_advantage, mean_signal     as in `metrics`
    path_advantage    sum W Q (sum_k q~_k S_k - sum_k w_k S_k) per path,  Q = sum of q over the kept candidates: the
                      path sum of (q - p) . S of `identity`, whose expectation is a difference of success rates
    path_direction    sum W d . S per path: the first-order gain of a unit step along the objective's direction

Each of them once more as NAME_with_harm, with what was not measured counted as harm in proportion to its |d|:

    with_harm = m score - (1 - m) a,    m = sum W |d| over measured nodes / the same over all positions of the paths

|d| is the full-vocabulary length of the objective's direction; for the two advantages, which are no matter of the
objective, that of q - p. `a` is what counts as nothing but harm: a cosine of -1; for signal and path_direction the same
statistic with every effect replaced by its size (noise makes it too large: a cautious score, at few visits a very
cautious one); for path_advantage the student's own success rate, the most that there is to lose, and for mean_advantage
that rate spread over the measured nodes.

Without any continuation: means over all positions of the paths of overlap, its masses, entropy gap and reverse KL.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.arrays import NODE_KEYS
from hydrometer.alignment.choice import NO_OBJECTIVE, Arm
from hydrometer.alignment.contributions import sum_nodes
from hydrometer.alignment.entries import finite
from hydrometer.alignment.intervals import CONFIDENCE, CORRELATION, Jackknife, jackknife, mean_of_sums, ratio
from hydrometer.alignment.metrics import METRICS
from hydrometer.alignment.metrics import TERMS as METRIC_TERMS
from hydrometer.alignment.study import Study
from hydrometer.types import NO_TEACHER

NO_NODES = "no_nodes"
NO_FULL_DIRECTION = "no_full_vocabulary_direction"
_NAMED = ("nodes", "paths", "student", "measured_norm", "norm", "measured_gap", "gap")
_EFFECTS = ("advantage", "signal", "path_advantage", "path_direction")
_POOLED = ("inner", "ideal_square", "noise", "direction_square", "inner_noise", "direction_noise")
TERMS = (*_NAMED, *_EFFECTS, *(f"{name}_size" for name in _EFFECTS), *_POOLED)
_AT = {name: place for place, name in enumerate(TERMS)}
Sums = Float[np.ndarray, "*batch term"]
Values = Float[np.ndarray, "*batch"]
PATTERNS = {
    "overlap_ratio": pl.col("overlap_ratio"),
    "student_overlap_mass": pl.col("student_overlap_mass"),
    "teacher_overlap_mass": pl.col("teacher_overlap_mass"),
    "entropy_gap": (pl.col("teacher_entropy_nats") - pl.col("student_entropy_nats")).abs(),
    "reverse_kl": pl.col("reverse_kl_nats"),
}
"""Means over positions."""


class ScoreKind(NamedTuple):
    """A score as a function of sums."""

    value: Callable[[Sums], Values]
    contributes: str
    """The term that is above 0 where a question takes part."""
    limits: tuple[float, float] | None = None
    is_ratio: bool = False


def _ratio(top: str, bottom: str) -> Callable[[Sums], Values]:
    return lambda sums: ratio(sums[..., _AT[top]], sums[..., _AT[bottom]])


def _pooled(sums: Sums) -> Values:
    terms = np.zeros((*sums.shape[:-1], len(METRIC_TERMS)))
    for name in ("nodes", *_POOLED):
        terms[..., METRIC_TERMS.index(name)] = sums[..., _AT[name]]
    return METRICS["pooled_cosine"].value(terms)


def with_harm(
    score: Callable[[Sums], Values], size: Callable[[Sums], Values], length: str = "norm"
) -> Callable[[Sums], Values]:
    """The measured share m of a length (`norm` of the direction, `gap` of q - p): m score - (1 - m) size."""
    share = _ratio(f"measured_{length}", length)

    def statistic(sums: Sums) -> Values:
        measured = np.clip(share(sums), 0.0, 1.0)
        return np.asarray(measured * score(sums) - (1.0 - measured) * size(sums))

    return statistic


def worth_parts(sums: Sums) -> tuple[Values, Values]:
    """`path_advantage_with_harm` as two parts: what was measured, and the rest, which counts as harm."""
    nothing_measured = with_harm(lambda s: np.zeros(s.shape[:-1]), _ratio("student", "paths"), "gap")(sums)
    return np.asarray(KINDS["path_advantage_with_harm"].value(sums) - nothing_measured), nothing_measured


def _kinds() -> dict[str, ScoreKind]:
    plain = {"pooled_cosine": ScoreKind(_pooled, "nodes", CORRELATION, is_ratio=True)}
    harmed = {
        "pooled_cosine_with_harm": ScoreKind(with_harm(_pooled, lambda s: np.ones(s.shape[:-1])), "norm", CORRELATION)
    }
    for name, per in (
        ("advantage", "nodes"),
        ("signal", "nodes"),
        ("path_advantage", "paths"),
        ("path_direction", "paths"),
    ):
        title = f"mean_{name}" if per == "nodes" else name
        is_policy = name.endswith("advantage")
        size, length = ("student", "gap") if is_policy else (f"{name}_size", "norm")
        plain[title] = ScoreKind(_ratio(name, per), per)
        harmed[f"{title}_with_harm"] = ScoreKind(with_harm(_ratio(name, per), _ratio(size, per), length), length)
    return plain | harmed


KINDS = _kinds()
"""Scores that depend on who continues, by name."""


def estimate_score(name: str, sums: Float[np.ndarray, "question term"], *, confidence: float = CONFIDENCE) -> Jackknife:
    """One of `KINDS` over the questions that take part in it."""
    kind = KINDS[name]
    options = {"limits": kind.limits, "is_ratio": kind.is_ratio, "confidence": confidence}
    return jackknife(kind.value, sums, sums[:, _AT[kind.contributes]] > 0.0, **options)


def alignment_scores(
    study: Study, nodes: pl.DataFrame, token_scores: pl.DataFrame, questions: pl.DataFrame
) -> list[dict[str, Any]]:
    """Rows of every arm of one continuation, and of `no teacher`.

    Args:
        study: of the continuation.
        nodes: `nodes.parquet`.
        token_scores: `token_scores.parquet`.
        questions: `questions.parquet`, for the student's success rates.
    """
    rows = []
    for arm in study.arms:
        sums = arm_sums(study, arm, nodes, token_scores, questions)
        named = {"teacher": arm.teacher, "objective": arm.objective, "continuation": study.continuation}
        for name, kind in KINDS.items():
            result = estimate_score(name, sums)
            is_known = kind.contributes not in ("norm", "gap") or np.isfinite(sums[:, _AT[kind.contributes]]).all()
            rows.append(named | {"score": name} | score_row(result, NO_NODES if is_known else NO_FULL_DIRECTION))
    return rows + [nothing(name, study.continuation) for name in KINDS]


def arm_sums(
    study: Study, arm: Arm, nodes: pl.DataFrame, token_scores: pl.DataFrame, questions: pl.DataFrame
) -> Float[np.ndarray, "question term"]:
    """`TERMS` of every question that the arm's teacher was scored on."""
    keys = list(NODE_KEYS[:3])
    lengths = token_scores.filter(teacher=arm.teacher, objective=arm.objective).select(
        *keys, _known(pl.col("full_norm_squared").sqrt()).alias("norm"), pl.col("l2").alias("gap")
    )
    weight = pl.col("path_weight") * pl.col("node_weight")
    weighted = [(weight * pl.col(name)).sum().alias(name) for name in ("norm", "gap")]
    totals = (
        nodes.filter(continuation=study.continuation)
        .sort(keys)
        .join(lengths, on=keys, maintain_order="left")
        .group_by("question_id", "rollout_id", maintain_order=True)
        .agg(pl.col("path_weight").first().alias("paths"), *weighted)
        .group_by("question_id", maintain_order=True)
        .agg(pl.col("paths", "norm", "gap").sum())
        .join(questions.select("question_id", "success_rate"), on="question_id", maintain_order="left")
        .with_columns(student=pl.col("paths") * pl.col("success_rate"))
        .sort("question_id")
    )
    sums = np.zeros((totals.height, len(TERMS)))
    for name in ("paths", "norm", "gap", "student"):
        sums[:, _AT[name]] = totals[name].to_numpy()
    place = {name: index for index, name in enumerate(totals["question_id"])}
    mine = [index for index, name in enumerate(study.labels.questions) if name in place]
    places = [place[study.labels.questions[index]] for index in mine]
    here = study.kept.keys.join(lengths, on=keys, how="left", maintain_order="left")
    terms = _node_terms(study, arm) | {f"measured_{name}": here[name].to_numpy() for name in ("norm", "gap")}
    for name, values in sum_by_name(study, arm, terms).items():
        sums[places, _AT[name]] = values[mine]
    return sums


def _known(length: pl.Expr) -> pl.Expr:
    """A length that no teacher gives stays unknown in a sum."""
    return length.fill_null(float("nan"))


def _node_terms(study: Study, arm: Arm) -> dict[str, Float[np.ndarray, " node"]]:
    scores, (teacher, _) = study.scores, arm.place
    kept_mass = np.exp(study.fields.logprobs[teacher]).sum(-1)
    effects = {
        "advantage": scores.advantage[teacher],
        "signal": scores.signal[arm.place],
        "path_advantage": kept_mass * scores.advantage[teacher],
        "path_direction": (scores.directions[arm.place] * study.kept.rates).sum(-1),
    }
    pooled = {name: study.terms[(METRIC_TERMS.index(name), *arm.place)] for name in _POOLED}
    sizes = {f"{name}_size": np.abs(values) for name, values in effects.items()}
    return {"nodes": np.ones(len(study.kept))} | effects | sizes | pooled


def sum_by_name(
    study: Study, arm: Arm, terms: dict[str, Float[np.ndarray, " node"]]
) -> dict[str, Float[np.ndarray, " question"]]:
    """Weighted sums over the nodes of each question that the arm has; 0 elsewhere."""
    is_present = study.scores.is_present[arm.place]
    stacked = np.where(is_present, np.stack(list(terms.values())), 0.0)
    return dict(zip(terms, sum_nodes(study.labels, stacked).T, strict=True))


def pattern_scores(arms: Sequence[Arm], nodes: pl.DataFrame, token_scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of the scores that no continuation enters, for every arm and `no teacher`."""
    keys = list(NODE_KEYS[:3])
    entropy = nodes.select(*keys, "path_weight", "student_entropy_nats").unique(keys, maintain_order=True)
    told: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for arm in arms:
        if arm.teacher not in told:  # no objective enters
            mine = token_scores.filter(teacher=arm.teacher, objective=arm.objective)
            told[arm.teacher] = _patterns(mine.join(entropy, on=keys, maintain_order="left"))
        named = {"teacher": arm.teacher, "objective": arm.objective, "continuation": None}
        rows += [named | row for row in told[arm.teacher]]
    return rows + [nothing(name, None) for name in PATTERNS]


def _patterns(mine: pl.DataFrame) -> list[dict[str, Any]]:
    found = []
    for name, column in PATTERNS.items():
        per_question = (
            mine.group_by("question_id", maintain_order=True)
            .agg(count=pl.col("path_weight").sum(), total=(pl.col("path_weight") * column).sum())
            .sort("question_id")
        )
        sums = per_question.select("count", "total").to_numpy()
        result = jackknife(mean_of_sums, sums, sums[:, 0] > 0.0)
        found.append({"score": name} | score_row(result, NO_NODES))
    return found


def nothing(score: str, continuation: str | None) -> dict[str, Any]:
    """`no teacher`: 0 in every score."""
    return {
        "teacher": NO_TEACHER,
        "objective": NO_OBJECTIVE,
        "continuation": continuation,
        "score": score,
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
        "n": 0,
        "reason": None,
    }


def score_row(result: Jackknife, reason: str) -> dict[str, Any]:
    """Value, ends of the interval over questions, and how many questions stand behind them."""
    value = finite(result.value)
    return {
        "value": value,
        "low": finite(result.low),
        "high": finite(result.high),
        "n": int(result.n_questions),
        "reason": None if value is not None else reason,
    }
