"""Files of a diagnosis to plain JSON-able objects that hold all its page says, in numbers and words, without markup.

view, data = build_view(read_run(folder))
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from hydrometer.report.analyses import build_advice, build_analyses
from hydrometer.report.arms import arm_key, arm_label, build_arms
from hydrometer.report.binned import binned_figures
from hydrometer.report.figures import Figure, Table
from hydrometer.report.files import RunFiles
from hydrometer.report.numbers import format_number, format_percent, spell_name
from hydrometer.report.paths import build_token_view, list_arms
from hydrometer.report.questions import build_questions
from hydrometer.report.ranking import looks_figure, ranked_by_in_words, ranking_figure
from hydrometer.report.records import build_tests, build_warnings, scalar
from hydrometer.report.values import build_values
from hydrometer.report.visible import visible_text
from hydrometer.types import NO_TEACHER

Json = dict[str, Any]
DEFAULT_EPSILON = 0.02
FOREIGN = "“{title}” is not shown: another version wrote it in another form. Run the diagnosis again to have it."
MAX_SETTINGS = 250
VALUE_CHARACTERS = 400
HARM_CHARACTERS = 1000


class Page(NamedTuple):
    """What a page prints and what its script draws (see `page.render_page`)."""

    view: Json
    data: Json


def build_view(files: RunFiles) -> Page:
    """Everything the page of a diagnosis shows."""
    arms = build_arms(files.summary)
    settings = flatten(files.run.get("config") or {})
    answer = build_answer(files.summary, arms)
    for arm in arms:
        arm["recommended"] = arm["label"] in answer["chosen"]
    tokens = build_token_view(files) | {"start": _start(arms)}
    analyses, foreign = build_analyses(files.summary)
    answering, why = _answering_figures(files, arms), [*binned_figures(files), *analyses]
    view = {
        "name": files.name,
        "student": find_setting(settings, "student"),
        "task": _task(files),
        "status": files.run.get("status"),
        "epsilon": _epsilon(files.summary, settings),
        "answer": answer,
        "confirm": visible_text(str(files.summary.get("confirm") or ""), HARM_CHARACTERS),
        "harms": [visible_text(str(text), HARM_CHARACTERS) for text in files.summary.get("harms") or []],
        "told": [visible_text(str(text), HARM_CHARACTERS) for text in files.summary.get("told") or []],
        "arms": arms,
        "looks_ahead": any(arm["looks_ahead"] for arm in arms),
        "candidate_set": files.summary.get("candidate_set"),
        "has_looks": any(figure.key == "looks" for figure in answering),
        "figures_of_why": [figure.key for figure in why],
        "advice": build_advice(files.summary),
        "two_candidates": _two_candidates(files),
        "tests": build_tests(files.summary.get("tests")),
        "warnings": [*build_warnings(files.summary), *(FOREIGN.format(title=title) for title in foreign)],
        "facts": _facts(files, settings, arms),
        "cost": build_cost(files.summary, files.run),
        "worth": build_values(files.summary),
        "contexts": _contexts(files.contexts),
        "start": tokens["start"][0] if tokens["start"] else None,
        "paths": tokens["paths"],
        "left_out": tokens["left_out"],
        **build_settings(files.run, settings),
    }
    data = {
        "figures": {figure.key: figure.describe() for figure in (*answering, *why)},
        "tokens": tokens,
        "questions": build_questions(files, list_arms(files)),
    }
    return Page(view, data)


def build_figures(files: RunFiles) -> list[Figure]:
    """Every figure of the page, the ranking first."""
    analyses, _ = build_analyses(files.summary)
    return [*_answering_figures(files, build_arms(files.summary)), *binned_figures(files), *analyses]


def _answering_figures(files: RunFiles, arms: Sequence[Json]) -> list[Figure]:
    return [figure for figure in (ranking_figure(arms, files.summary), looks_figure(files.summary)) if figure]


def build_settings(run: Mapping[str, Any], settings: Sequence[Sequence[str]]) -> Json:
    """Configuration and provenance as rows, and how many of the former are left out."""
    provenance = flatten({key: value for key, value in run.items() if key not in {"config", "cost"}})
    return {
        "settings": settings[:MAX_SETTINGS],
        "settings_left_out": max(0, len(settings) - MAX_SETTINGS),
        "provenance": provenance[:MAX_SETTINGS],
    }


def shown_table(table: Table) -> Json:
    """A table for the template."""
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}


def build_answer(summary: Mapping[str, Any], arms: Sequence[Json]) -> Json:
    """State (`recommended`, `teacher`, `open`, `nothing`), headline, sentence, and the labels of the chosen arms.

    In the state `teacher` one teacher is chosen with several of its objectives, which were not told apart.
    """
    recommendation = summary.get("recommendation") or {}
    placed = [arm for arm in arms if arm["place"] is not None]
    ranked = [arm for arm in placed if arm["looks_ahead"] == placed[0]["looks_ahead"]]
    if recommendation.get("teacher"):
        key = arm_key(recommendation)
        return {
            "state": "recommended",
            "headline": f"Do without: {NO_TEACHER}" if key[0] == NO_TEACHER else f"Train with {arm_label(key)}",
            "chosen": [arm_label(key)],
            "text": recommendation.get("sentence") or "",
            "probability": recommendation.get("probability"),
        }
    verdict = str(summary.get("verdict") or "").removeprefix("Not separated yet: ")
    teaching = [arm for arm in ranked if not arm["no_teacher"]]
    if all(arm["ranking_score"] is None and arm["p_within_epsilon"] is None for arm in teaching):
        reasons = sorted({arm["ranking_reason"] for arm in ranked if arm["ranking_reason"] and not arm["no_teacher"]})
        headline = "No arm could be scored"
        return {"state": "nothing", "headline": headline, "text": verdict, "reasons": reasons, "chosen": []}
    leading = summary.get("leading_teacher") or {}
    objectives = " or ".join(leading.get("objectives") or [])
    if leading.get("is_decided"):
        return {
            "state": "teacher",
            "headline": f"Train with {leading['teacher']}, {objectives}",
            "chosen": [arm_label(arm_key(leading | {"objective": name})) for name in leading["objectives"]],
            "text": verdict,
            "probability": leading["probability"],
        }
    front = ranked[0]
    return {
        "state": "open",
        "headline": "Not separated yet" + (f"; in front: {leading['teacher']}, {objectives}" if leading else ""),
        "chosen": [],
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


def _start(arms: Sequence[Json]) -> list[str] | None:
    """The arm the token view opens with: the highest placed teacher."""
    teaching = [arm for arm in arms if not arm["no_teacher"]]
    return [visible_text(teaching[0][name]) for name in ("teacher", "objective")] if teaching else None


def _epsilon(summary: Mapping[str, Any], settings: Sequence[Sequence[str]]) -> float:
    stored = (summary.get("analyses") or {}).get("epsilon")
    if isinstance(stored, int | float):
        return float(stored)
    found = find_setting(settings, "epsilon")
    try:
        return float(found) if found else DEFAULT_EPSILON
    except ValueError:
        return DEFAULT_EPSILON


def find_setting(settings: Sequence[Sequence[str]], name: str) -> str | None:
    """A setting by its name or, for a nested one, by its last part or its `spec`."""
    for key, value in settings:
        if key in (name, f"{name}.spec") or key.endswith(f".{name}"):
            return value
    return None


def _task(files: RunFiles) -> str | None:
    tasks = files.questions["task"].drop_nulls().unique().sort().to_list()
    return ", ".join(tasks) if tasks else None


def _facts(files: RunFiles, settings: Sequence[Sequence[str]], arms: Sequence[Json]) -> list[list[str]]:
    """What was asked for and what was sampled, as names and values."""
    kinds = dict(files.rollouts.group_by("kind").len().sort("kind").iter_rows())
    measured = files.nodes.filter(pl.col("kept_candidates") >= 2).height
    base, correct = (int(files.questions[name].sum() or 0) for name in ("rollouts", "correct"))
    visits = _median_visits(arms)
    informative = int(files.questions["informative"].sum() or 0)
    rows = [
        ["Goal", _GOALS.get(find_setting(settings, "goal") or "", find_setting(settings, "goal"))],
        ["Branches", find_setting(settings, "allocation")],
        ["Ranking", ranked_by_in_words(files.summary)],
        ["Questions", f"{files.questions.height:,}, {informative:,} of them informative"],
        ["Student's accuracy", f"{format_percent(correct / base)} of {base:,} base rollouts" if base else None],
        ["Rollouts", ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or "none"],
        [
            "Nodes",
            f"{files.nodes.height:,}, measured {measured:,}, eligible {int(files.nodes['eligible'].sum() or 0):,}",
        ],
        ["Visits of a kept candidate", None if visits is None else f"{format_number(visits)} in the median"],
    ]
    return [[name, value] for name, value in rows if value]


_GOALS = {
    "choose": "choose: an arm at the least cost; the run stops when it is decided",
    "map": "map: the tokens that matter",
    "both": "both: every candidate measured alike",
}


def _median_visits(arms: Sequence[Json]) -> float | None:
    """The run has one figure, stored with every attenuated score."""
    found = (score["median_visits"] for arm in arms for score in arm["scores"]["all"].values())
    return next((visits for visits in found if visits is not None), None)


def _two_candidates(files: RunFiles) -> str | None:
    eligible = files.nodes.filter(pl.col("eligible"))
    if eligible.is_empty():
        return None
    two = eligible.filter(pl.col("kept_candidates") == 2).height
    share = format_percent(two / eligible.height)
    return (
        f"{two:,} of {eligible.height:,} eligible nodes ({share}) have two candidates, where a cosine is exactly "
        "+1 or −1: their mean says how often the teacher is on the right side, not how well it points."
    )


def build_cost(summary: Mapping[str, Any], run: Mapping[str, Any]) -> list[list[str]]:
    """What the run spent, as names and values."""
    cost = summary.get("cost") or run.get("cost") or {}
    if not isinstance(cost, Mapping):
        return []
    return [[f"Cost: {spell_name(str(key))}", format_number(scalar(value))] for key, value in cost.items()]


def _contexts(contexts: pl.DataFrame) -> list[list[str]]:
    """Per teacher: for how many questions it had a context, and why not for the others."""
    return [
        [name, f"{rows.height:,}", f"{int(rows['skipped'].sum() or 0):,}", _counted(rows.filter("skipped")["reason"])]
        for (name,), rows in sorted(contexts.partition_by("teacher", as_dict=True).items())
    ]


def _counted(values: pl.Series) -> str:
    counts = values.fill_null("no reason was recorded").alias("text").value_counts()
    found = counts.sort("count", "text", descending=[True, False]).iter_rows()
    return "; ".join(f"{text} ({count:,})" for text, count in found)
