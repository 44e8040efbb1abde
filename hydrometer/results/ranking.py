"""The ranking and the scores of `summary.json` as frames; what has no value is null with its `reason`.

Runs of older versions, whose arms do not name who continued, were continued by the student.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from hydrometer.types import STUDENT

_RANKING: dict[str, Any] = {
    "place": pl.Int64,
    "teacher": pl.String,
    "objective": pl.String,
    "continuation": pl.String,
    "score": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_within_epsilon": pl.Float64,
    "worth": pl.Float64,
    "is_harm": pl.Boolean,
    "reason": pl.String,
}
_SCORES: dict[str, Any] = {
    "teacher": pl.String,
    "objective": pl.String,
    "continuation": pl.String,
    "split": pl.String,
    "score": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "these_low": pl.Float64,
    "these_high": pl.Float64,
    "n_nodes": pl.Int64,
    "n_questions": pl.Int64,
    "reason": pl.String,
}


def first_ranking(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of the ranking that recommends: that of all teachers where they continue, else the student's."""
    by_student = [line.get("continuation", STUDENT) == STUDENT for line in lines]
    return [line for line, own in zip(lines, by_student, strict=True) if own == by_student[0]]


def rank_frame(summary: Mapping[str, Any]) -> pl.DataFrame:
    """One row per ranked arm and `no teacher`, in the order of the ranking.

    `place` counts from 1 among the arms that teachers continue and among those that the student does; `score` is the
    pooled cosine on the nodes that all ranked arms share, `low` and `high` its interval over questions,
    `p_within_epsilon` the probability of being as good as the best, `worth` what following the teacher adds up to, and
    `is_harm` whether that puts it below `no teacher`.
    """
    places: dict[bool, int] = {}
    rows = []
    for entry in summary["ranking"]:
        continuation = entry.get("continuation") or STUDENT
        is_ahead = continuation != STUDENT
        places[is_ahead] = places.get(is_ahead, 0) + 1
        low, high = entry.get("interval") or (None, None)
        worth = (entry.get("worth") or {}).get("value")
        placed = {"place": places[is_ahead], "continuation": continuation, "low": low, "high": high, "worth": worth}
        rows.append({**entry, **placed})
    return pl.DataFrame([{name: row.get(name) for name in _RANKING} for row in rows], schema=_RANKING)


def score_frame(summary: Mapping[str, Any]) -> pl.DataFrame:
    """One row per arm, split (`all`, `correct`, `incorrect`) and score (`pooled_cosine`, `mean_advantage` ...).

    `low` and `high` are the interval over questions, `these_low` and `these_high` that for exactly these questions.
    """
    return pl.DataFrame(list(_score_rows(summary)), schema=_SCORES)


def _score_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for arm in summary["arms"]:
        named = {"teacher": arm["teacher"], "objective": arm["objective"]}
        named["continuation"] = arm.get("continuation") or STUDENT
        for split, scores in arm["scores"].items():
            for score, entry in scores.items():
                intervals = entry.get("intervals") or {}
                low, high = intervals.get("questions") or (None, None)
                these_low, these_high = intervals.get("these_questions") or (None, None)
                counts = {name: entry.get(name) for name in ("value", "n_nodes", "n_questions", "reason")}
                ends = {"low": low, "high": high, "these_low": these_low, "these_high": these_high}
                yield {**named, "split": split, "score": score, **counts, **ends}
