"""The page of an evaluation, a probe or a recipe: its findings in words and every estimate of summary.json as a figure.

An estimate is an object with `value`, `low` and `high`; its place in summary.json is its name.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydrometer.artifacts import read_json
from hydrometer.report.figures import Figure
from hydrometer.report.numbers import format_interval, format_number, format_unit
from hydrometer.report.records import build_warnings
from hydrometer.report.view import Page, build_cost, build_settings, flatten
from hydrometer.report.words import reason_in_words

Json = dict[str, Any]
MAX_ESTIMATES = 400
_SENTENCES = ("verdict", "sentence", "summary", "reading", "reason")
_SHARES = ("accuracy", "share", "pass@", "difference", "rate", "ratio", "mass")


def build_plain_view(folder: Path) -> Page:
    """The page of a folder with a summary.json and, where it is no recipe, a run.json.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    summary = read_json(folder / "summary.json")
    run = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    kind = str(run.get("kind") or ("recipe" if "recipe" in summary else "run"))
    rows = [[measure, _who(of, summary), *rest] for measure, of, *rest in _estimates(summary, ())][:MAX_ESTIMATES]
    settings = flatten(run.get("config") or summary.get("options") or {})
    figures = [_figure(rows)] if rows else []
    title = summary.get("recipe") or summary.get("probe") or summary.get("model") or folder.resolve().name
    view = {
        "name": folder.resolve().name,
        "status": run.get("status"),
        "kind": kind,
        "title": str(title),
        "sentences": list(dict.fromkeys([*_evaluated(summary, kind), *_sentences(summary)])),
        "figures": [figure.key for figure in figures],
        "stages": _stages(folder, summary),
        "warnings": build_warnings(summary),
        "cost": build_cost(summary, run),
        **build_settings(run, settings),
    }
    return Page(view, {"figures": {figure.key: figure.describe() for figure in figures}})


def _stages(folder: Path, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and page of every stage of a recipe that is a run of its own; these write their pages themselves."""
    names = [name for name in summary.get("stages") or () if name.isidentifier()]
    return [(name, f"{name}/report.html") for name in names if (folder / name / "run.json").is_file()]


def _figure(rows: list[list[Any]]) -> Figure:
    return Figure(
        key="estimates",
        title="What was measured",
        note="Every estimate of summary.json with its 95 % interval over questions; hollow: no interval.",
        chart={
            "kind": "intervals",
            "y": "of",
            "x": "value",
            "low": "low",
            "high": "high",
            "unit": "unit",
            "empty": "note",
        },
        columns=("measure", "of", "value", "low", "high", "questions", "unit", "note"),
        rows=rows,
        filters=("measure",),
    )


def _estimates(value: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Measure (the last name), what it is of (the names before it), and the numbers."""
    if isinstance(value, Mapping):
        if {"value", "low", "high"} <= value.keys():
            measure, of = _split_path(path)
            unit = "share" if any(word in measure for word in _SHARES) else "number"
            note = reason_in_words(value.get("reason")) if value["value"] is None else None
            yield (measure, of, value["value"], value["low"], value["high"], value.get("n_questions"), unit, note)
            return
        for name, inner in value.items():
            yield from _estimates(inner, (*path, str(name)))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            name = inner.get("name") or inner.get("first") if isinstance(inner, Mapping) else None
            yield from _estimates(inner, (*path, str(name or place)))


def _who(of: str, summary: Mapping[str, Any]) -> str:
    """The models of an evaluation by their names, where these tell them apart."""
    model, other = summary.get("model"), (summary.get("against") or {}).get("model")
    names = {"all": model, "against": other} if model != other else {}
    return str(names.get(of) or of)


def _evaluated(summary: Mapping[str, Any], kind: str) -> Iterator[str]:
    """What an evaluation found: how often the model is right, and the difference to another."""
    found = [entry for entry in (summary, summary.get("against")) if entry and entry.get("accuracy")]
    if kind != "evaluation" or not found:
        return
    right = [f"{entry.get('model')} in {_told(entry['accuracy'], 'share')}" for entry in found]
    yield (
        f"Right: {' and '.join(right)} of {format_number(summary.get('samples'))} responses to each of "
        f"{format_number(summary.get('questions'))} questions of {summary.get('task')}, split {summary.get('split')}. "
        "Intervals are 95 % over questions."
    )
    if difference := (summary.get("comparison") or {}).get("difference"):
        yield f"The first minus the second, paired by question: {_told(difference, 'percent_points')}."


def _told(estimate: Mapping[str, Any], unit: str) -> str:
    ends = None if estimate.get("low") is None else [estimate["low"], estimate["high"]]
    return f"{format_unit(estimate['value'], unit)} {format_interval(ends, unit)}".rstrip()


def _split_path(path: tuple[str, ...]) -> tuple[str, str]:
    if len(path) > 1 and path[-2] == "pass_at":
        return f"pass@{path[-1]}", " ".join(path[:-2]) or "all"
    return path[-1].replace("_", " ") if path else "value", " ".join(path[:-1]).replace("_", " ") or "all"


def _sentences(value: Any) -> Iterator[str]:
    """Findings that are written out somewhere in the summary."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name in _SENTENCES and isinstance(inner, str) and " " in inner:
                yield inner
            elif not isinstance(inner, str):
                yield from _sentences(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _sentences(inner)
