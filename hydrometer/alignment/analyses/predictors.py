"""What predicts alignment: correlations of nodes, within each teacher, over all teachers' nodes, and between teachers.

    within  = mean over teachers of the correlation over that teacher's nodes
    pooled  = correlation over the nodes of all teachers together
    between = correlation of the teachers' means (of their mid-ranks among all nodes, for Spearman)

A quantity can predict alignment one way within every teacher and the other way across teachers (Simpson's paradox): a
large divergence can mark the nodes where a teacher helps, and the teachers that do not. Only `within` says which nodes
of a chosen teacher to trust, only `between` says which teacher to take, and `pooled` mixes the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.analyses.correlation import (
    METHODS,
    Copies,
    Method,
    Nodes,
    correlation_copies,
    jackknife_correlation,
)
from hydrometer.alignment.arrays import NODE_KEYS
from hydrometer.alignment.choice import Arm
from hydrometer.alignment.entries import NO_VALUE, describe
from hydrometer.alignment.intervals import Jackknife

RESPONSES = ("cosine", "signal")
PREDICTORS = ("reverse_kl_nats", "l2", "distribution_cosine", "student_entropy_nats", "position", "depth_frac")
OF_THE_TEACHER = ("reverse_kl_nats", "l2", "distribution_cosine")
"""The others are the same at a node whoever teaches, so that teachers cannot be told apart by them."""
NO_VARIATION = "no_variation"
NO_VALUES = "no_values"
FEW_TEACHERS = "fewer_than_3_teachers"
SAME_FOR_ALL = "the_same_for_every_teacher"


def predict_alignment(
    alignment: pl.DataFrame, nodes: pl.DataFrame, arms: Sequence[Arm], continuation: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Correlations per arm, and per objective across its teachers (references left out there).

    Args:
        alignment: `alignment.parquet`.
        nodes: `nodes.parquet`, for student_entropy_nats.
        arms: whose rows to look at.
        continuation: likewise.
    """
    entropy = nodes.select(*NODE_KEYS, "student_entropy_nats")
    table = alignment.filter(continuation=continuation).join(entropy, on=list(NODE_KEYS), how="left")
    questions = table["question_id"].unique().sort().to_list()
    per_arm: list[dict[str, Any]] = []
    across: list[dict[str, Any]] = []
    for objective in dict.fromkeys(arm.objective for arm in arms):
        mine = [arm for arm in arms if arm.objective == objective]
        named = {"objective": objective, "continuation": continuation}
        for response in RESPONSES:
            rows = table.filter(pl.col(response).is_not_null(), objective=objective)
            teachers = {arm.teacher: _correlate(rows.filter(teacher=arm.teacher), response, questions) for arm in mine}
            for teacher, found in teachers.items():
                per_arm += [{"teacher": teacher, **named, **row} for row in _rows_of_arm(found, response)]
            if not any(arm.reference for arm in mine):
                pooled = _correlate(rows.filter(pl.col("teacher").is_in(list(teachers))), response, questions)
                across += [named | row for row in _rows_across(pooled, list(teachers.values()), response)]
    return per_arm, across


class _Correlated(NamedTuple):
    """Correlations of one response with the predictors that have values."""

    names: tuple[str, ...]
    nodes: Nodes
    copies: Mapping[Method, Copies]


def _correlate(rows: pl.DataFrame, response: str, questions: Sequence[str]) -> _Correlated:
    """Over the rows that have every predictor which any of them has."""
    names = tuple(name for name in PREDICTORS if rows[name].null_count() < rows.height)
    complete = rows.drop_nulls(names) if names else rows.clear()
    place = {name: index for index, name in enumerate(questions)}
    teacher = {name: index for index, name in enumerate(complete["teacher"].unique().sort())}
    nodes = Nodes(
        complete.select(response, *names).cast(pl.Float64).to_numpy().T,
        np.array([place[name] for name in complete["question_id"]], dtype=np.int64),
        len(questions),
        np.array([teacher[name] for name in complete["teacher"]], dtype=np.int64),
    )
    return _Correlated(names, nodes, {method: correlation_copies(nodes, method) for method in METHODS})


def _rows_of_arm(found: _Correlated, response: str) -> list[dict[str, Any]]:
    rows = []
    for method in METHODS:
        result = jackknife_correlation(found.copies[method].overall, found.nodes)
        for predictor in PREDICTORS:
            rows.append(
                {"response": response, "predictor": predictor, "method": method}
                | _describe(result, found.names, predictor)
                | {"n_nodes": len(found.nodes.question)}
            )
    return rows


def _rows_across(pooled: _Correlated, teachers: Sequence[_Correlated], response: str) -> list[dict[str, Any]]:
    rows = []
    for method in METHODS:
        overall = jackknife_correlation(pooled.copies[method].overall, pooled.nodes)
        between = jackknife_correlation(pooled.copies[method].between, pooled.nodes)
        for predictor in pooled.names:
            own = [
                found.copies[method].overall[:, found.names.index(predictor)]
                for found in teachers
                if predictor in found.names
            ]
            defined = [copies for copies in own if np.isfinite(copies[0])]
            row = {
                "within": describe(_mean_of(defined, pooled.nodes), (0,), reason=NO_VARIATION),
                "pooled": _describe(overall, pooled.names, predictor),
                "between": _describe(between, pooled.names, predictor, reason=FEW_TEACHERS)
                if predictor in OF_THE_TEACHER
                else _nothing(SAME_FOR_ALL),
            }
            rows.append(
                {"response": response, "predictor": predictor, "method": method, "n_nodes": len(pooled.nodes.question)}
                | {"n_teachers": len(defined), "n_teachers_positive": sum(bool(copies[0] > 0.0) for copies in defined)}
                | row
                | _contradiction(row, [float(copies[0]) for copies in defined])
            )
    return rows


def _mean_of(copies: Sequence[Float[np.ndarray, " copy"]], nodes: Nodes) -> Jackknife:
    """Mean over teachers with its interval over questions."""
    if not copies:
        copies = [np.full(nodes.n_questions + 1, np.nan)]
    return jackknife_correlation(np.mean(copies, axis=0)[:, None], nodes)


def _contradiction(row: Mapping[str, Mapping[str, Any]], values: Sequence[float]) -> dict[str, Any]:
    """Whether most teachers point the other way than the pooled or the between-teacher correlation.

    `clear` means that the interval of `within` and that of a contradicting one both leave out 0.
    """
    positive, negative = (sum(sign * value > 0.0 for value in values) for sign in (1, -1))
    sign = (2 * positive > len(values)) - (2 * negative > len(values))
    against = [name for name in ("pooled", "between") if sign * (row[name]["value"] or 0.0) < 0.0]
    is_clear = _excludes_zero(row["within"], sign) and any(_excludes_zero(row[name], -sign) for name in against)
    return {"contradicted_by": against, "clear": is_clear}


def _excludes_zero(entry: Mapping[str, Any], sign: int) -> bool:
    return entry["interval"] is not None and sign * entry["interval"][0] > 0.0 and sign * entry["interval"][1] > 0.0


def _describe(result: Jackknife, names: Sequence[str], predictor: str, *, reason: str = NO_VARIATION) -> dict[str, Any]:
    if predictor in names:
        return describe(result, (names.index(predictor),), reason=reason)
    return _nothing(NO_VALUES)


def _nothing(reason: str) -> dict[str, Any]:
    return {"value": None, "interval": None, "n_questions": 0, "reason": reason, "interval_reason": NO_VALUE}
