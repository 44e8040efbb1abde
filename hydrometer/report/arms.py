"""Arms as rows: the scores of summary.json in ranking order, with every value or the reason for its absence."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hydrometer.report.words import METRICS, RANKING_METRIC, reason_in_words
from hydrometer.types import NO_TEACHER, STUDENT

Json = dict[str, Any]
ArmKey = tuple[str, str, str]
SPLITS = ("all", "correct", "incorrect")
_ABSENT = {"reason": "not_computed"}


def build_arms(summary: Mapping[str, Any]) -> list[Json]:
    """One object per arm: names, place in its ranking, scores[split][metric]. Ranked first, references last.

    Where teachers continue they have one ranking in common, and the student has one; the one that recommends is first.
    """
    ranking: dict[ArmKey, tuple[int, Mapping[str, Any]]] = {}
    places: Counter[bool] = Counter()
    for entry in _objects(summary.get("ranking")):
        key = arm_key(entry)
        places[key[2] != STUDENT] += 1
        ranking[key] = (places[key[2] != STUDENT], entry)
    teachers_lead = next((key[2] != STUDENT for key in ranking), False)
    arms = {arm_key(arm): arm for arm in _objects(summary.get("arms"))}
    for key, (_, entry) in ranking.items():
        arms.setdefault(key, entry)
    rows = [_arm_row(arm, *ranking.get(key, (None, {}))) for key, arm in arms.items()]
    return sorted(
        rows,
        key=lambda row: (
            row["looks_ahead"] != teachers_lead,
            row["place"] is None,
            row["reference"],
            row["place"] or 0,
            row["continuation"],
        ),
    )


def arm_key(entry: Mapping[str, Any]) -> ArmKey:
    """Teacher, objective, continuation; `no teacher` has one spelling and no objective."""
    teacher = str(entry.get("teacher") or "")
    continuation = str(entry.get("continuation") or STUDENT)
    if teacher.replace("_", " ") == NO_TEACHER:
        return (NO_TEACHER, "", continuation)
    return (teacher, str(entry.get("objective") or ""), continuation)


def arm_label(key: ArmKey) -> str:
    """An arm in one line."""
    teacher, objective, continuation = key
    label = f"{teacher}, {objective}" if objective else teacher
    return label if continuation == STUDENT else f"{label}, continued by {continuation}"


def _arm_row(arm: Mapping[str, Any], place: int | None, entry: Mapping[str, Any]) -> Json:
    key = arm_key(arm)
    scores = arm.get("scores") or {}
    return {
        "teacher": key[0],
        "objective": key[1],
        "continuation": key[2],
        "label": arm_label(key),
        "looks_ahead": key[2] != STUDENT,
        "no_teacher": key[0] == NO_TEACHER,
        "aliases": [str(alias) for alias in arm.get("aliases") or []],
        "reference": bool(arm.get("reference")),
        "measured_share": _number(arm.get("measured_share")),
        "place": place,
        "ranking_score": _number(entry.get("score")),
        "ranking_reason": None if entry.get("score") is not None else reason_in_words(entry.get("reason")),
        "ranking_interval": _interval(entry.get("interval")),
        "p_within_epsilon": _number(entry.get("p_within_epsilon")),
        "worth": _worth(entry.get("worth") or {}),
        "is_harm": bool(entry.get("is_harm")),
        "scores": {split: _split_scores(scores.get(split) or {}) for split in SPLITS},
        "difference": _score((arm.get("correct_minus_incorrect") or {}).get(RANKING_METRIC.key) or _ABSENT),
    }


def _worth(found: Mapping[str, Any]) -> Json | None:
    """What following the teacher adds up to; None where that is not known."""
    value = _number(found.get("value"))
    return None if value is None else {"value": value, "interval": _interval(found.get("interval"))}


def _split_scores(scores: Mapping[str, Any]) -> Json:
    return {metric.key: _score(scores.get(metric.key) or _ABSENT) for metric in METRICS}


def _score(score: Mapping[str, Any]) -> Json:
    intervals = score.get("intervals") or {}
    value = _number(score.get("value"))
    questions = _interval(intervals.get("questions"))
    return {
        "value": value,
        "plain": _number(score.get("plain")),
        "n_nodes": score.get("n_nodes") or 0,
        "n_questions": score.get("n_questions") or 0,
        "questions": questions,
        "these_questions": _interval(intervals.get("these_questions")),
        "reason": reason_in_words(score.get("reason")) if value is None else None,
        "interval_reason": None if questions else _interval_reason(score),
        "at_half_visits": _number(score.get("value_at_half_visits")),
        "median_visits": _number(score.get("median_visits")),
        "reliability": _number(score.get("split_half_reliability")),
    }


def _interval_reason(score: Mapping[str, Any]) -> str:
    code = (score.get("interval_reasons") or {}).get("questions")
    return f"no interval: {reason_in_words(code)}" if code else "no interval"


def _interval(ends: Any) -> list[float] | None:
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    low, high = _number(ends[0]), _number(ends[1])
    return None if low is None or high is None else [low, high]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in value or [] if isinstance(entry, Mapping)] if isinstance(value, list) else []
