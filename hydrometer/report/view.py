"""Files of a run to one plain JSON-able object that holds all the page says, in numbers and words, without markup.

view = build_view(read_run(folder))
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hydrometer.report.analyses import build_advice, build_analyses
from hydrometer.report.arms import arm_key, arm_label, build_arms
from hydrometer.report.axis import build_axis
from hydrometer.report.files import RunFiles
from hydrometer.report.paths import build_token_view
from hydrometer.report.records import build_tests, build_warnings, scalar
from hydrometer.report.visible import visible_text
from hydrometer.report.words import RANKING_METRIC
from hydrometer.types import NO_TEACHER

Json = dict[str, Any]
DEFAULT_EPSILON = 0.02
MAX_SETTINGS = 250
VALUE_CHARACTERS = 400


def build_view(files: RunFiles) -> Json:
    """Everything the page shows."""
    arms = build_arms(files.summary)
    settings = flatten(files.run.get("config") or {})
    epsilon = _epsilon(files.summary, settings)
    return {
        "name": files.name,
        "student": _setting(settings, "student"),
        "task": _task(files),
        "status": files.run.get("status"),
        "counts": _counts(files),
        "epsilon": epsilon,
        "answer": build_answer(files.summary, arms),
        "arms": arms,
        "candidate_set": files.summary.get("candidate_set"),
        "has_these_questions": any(arm["scores"]["all"][RANKING_METRIC.key]["these_questions"] for arm in arms),
        "median_visits": _median_visits(arms),
        "axes": {
            name: _axis(arms, splits) for name, splits in (("ranking", ["all"]), ("outcome", ["correct", "incorrect"]))
        },
        "analyses": build_analyses(files.summary),
        "advice": build_advice(files.summary),
        "tests": build_tests(files.summary.get("tests")),
        "warnings": build_warnings(files.summary),
        "cost": _cost(files),
        "contexts": _contexts(files.contexts),
        "settings": settings[:MAX_SETTINGS],
        "settings_left_out": max(0, len(settings) - MAX_SETTINGS),
        "provenance": flatten({key: value for key, value in files.run.items() if key not in {"config", "cost"}})[
            :MAX_SETTINGS
        ],
        "tokens": {**build_token_view(files), "start": _start(arms)},
    }


def build_answer(summary: Mapping[str, Any], arms: Sequence[Json]) -> Json:
    """State (`recommended`, `open`, `nothing`), headline, and the sentence below it where the run has one."""
    recommendation = summary.get("recommendation") or {}
    ranked = [arm for arm in arms if arm["place"] is not None and not arm["looks_ahead"]]
    if recommendation.get("teacher"):
        key = arm_key(recommendation)
        return {
            "state": "recommended",
            "headline": f"Do without: {NO_TEACHER}" if key[0] == NO_TEACHER else f"Train with {arm_label(key)}",
            "arm": arm_label(key),
            "text": recommendation.get("sentence") or "",
            "probability": recommendation.get("probability"),
        }
    verdict = str(summary.get("verdict") or "").removeprefix("Not separated yet: ")
    teaching = [arm for arm in ranked if not arm["no_teacher"]]
    if all(arm["ranking_score"] is None and arm["p_within_epsilon"] is None for arm in teaching):
        reasons = sorted({arm["ranking_reason"] for arm in ranked if arm["ranking_reason"] and not arm["no_teacher"]})
        return {"state": "nothing", "headline": "No arm could be scored", "text": verdict, "reasons": reasons}
    front = ranked[0]
    return {
        "state": "open",
        "headline": "Not separated yet",
        "text": verdict,
        "front": front["label"],
        "probability": front["p_within_epsilon"],
        "more_tokens": recommendation.get("more_tokens", summary.get("more_tokens")),
    }


def flatten(value: Any, prefix: str = "") -> list[list[str]]:
    """Nested settings as [dotted name, text] rows in their own order."""
    if isinstance(value, Mapping) and value:
        return [
            row for key, inner in value.items() for row in flatten(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return [row for index, entry in enumerate(value) for row in flatten(entry, f"{prefix}.{index}")]
    if isinstance(value, list):
        value = ", ".join(str(entry) for entry in value) or "(none)"
    return [[prefix, visible_text("not set" if value is None else str(value), VALUE_CHARACTERS)]]


def _median_visits(arms: Sequence[Json]) -> float | None:
    """Median visits of a kept candidate; the run has one figure, stored with every attenuated score."""
    found = (score["median_visits"] for arm in arms for score in arm["scores"]["all"].values())
    return next((visits for visits in found if visits is not None), None)


def _start(arms: Sequence[Json]) -> list[str] | None:
    """The arm the token view opens with: the highest placed teacher."""
    teaching = [arm for arm in arms if not arm["no_teacher"]]
    return [visible_text(teaching[0][name]) for name in ("teacher", "objective")] if teaching else None


def _epsilon(summary: Mapping[str, Any], settings: Sequence[Sequence[str]]) -> float:
    stored = (summary.get("analyses") or {}).get("epsilon")
    if isinstance(stored, int | float):
        return float(stored)
    found = _setting(settings, "epsilon")
    try:
        return float(found) if found else DEFAULT_EPSILON
    except ValueError:
        return DEFAULT_EPSILON


def _setting(settings: Sequence[Sequence[str]], name: str) -> str | None:
    """A setting by its name or, for a nested one, by its last part or its `spec`."""
    for key, value in settings:
        if key in (name, f"{name}.spec") or key.endswith(f".{name}"):
            return value
    return None


def _task(files: RunFiles) -> str | None:
    tasks = files.questions["task"].drop_nulls().unique().sort().to_list()
    return ", ".join(tasks) if tasks else None


def _counts(files: RunFiles) -> Json:
    kinds = dict(files.rollouts.group_by("kind").len().sort("kind").iter_rows())
    measured = files.nodes.filter(pl.col("kept_candidates") >= 2)
    return {
        "questions": files.questions.height,
        "informative": int(files.questions["informative"].sum() or 0),
        "rollouts": kinds,
        "nodes": files.nodes.height,
        "measured": measured.height,
        "eligible": int(files.nodes["eligible"].sum() or 0),
        "two_candidates": measured.filter("eligible", pl.col("kept_candidates") == 2).height,
        "base_correct": int(files.questions["correct"].sum() or 0),
        "base": int(files.questions["rollouts"].sum() or 0),
    }


def _axis(arms: Sequence[Json], splits: Sequence[str]) -> Json:
    values: list[float | None] = []
    for score in (arm["scores"][split][RANKING_METRIC.key] for arm in arms for split in splits):
        values += [score["value"], *(score["questions"] or []), *(score["these_questions"] or [])]
    return build_axis(values)


def _cost(files: RunFiles) -> list[list[Any]]:
    cost = files.summary.get("cost") or files.run.get("cost") or {}
    return [[key, scalar(value)] for key, value in cost.items()] if isinstance(cost, Mapping) else []


def _contexts(contexts: pl.DataFrame) -> list[Json]:
    """Per teacher: for how many questions it had a context, and why not for the others."""
    return [
        {
            "teacher": name,
            "questions": rows.height,
            "skipped": int(rows["skipped"].sum() or 0),
            "reasons": _counted(rows.filter("skipped")["reason"]),
        }
        for (name,), rows in sorted(contexts.partition_by("teacher", as_dict=True).items())
    ]


def _counted(values: pl.Series) -> list[list[Any]]:
    counts = values.fill_null("no reason was recorded").alias("text").value_counts()
    return [list(row) for row in counts.sort("count", "text", descending=[True, False]).iter_rows()]
