"""The page of training runs: one alone, or several over each other."""

from collections.abc import Sequence
from typing import Any

from hydrometer.report.figures import Figure, Table
from hydrometer.report.training import (
    MAIN,
    alarm_table,
    evaluation_figure,
    metric_figures,
    progress_figure,
    verdict,
)
from hydrometer.report.training_files import TrainingFiles
from hydrometer.report.view import Page, build_cost, build_settings, flatten, shown_table

Json = dict[str, Any]


def build_training_view(run: TrainingFiles) -> Page:
    """The page of one run."""
    settings = flatten(run.run.get("config") or {})
    section, figures = training_section([run])
    view = {
        "name": run.name,
        "status": run.run.get("status"),
        "student": (run.run.get("config") or {}).get("student"),
        "task": run.run.get("task"),
        "verdict": verdict(run),
        "training": section,
        "cost": build_cost(run.summary, run.run),
        **build_settings(run.run, settings),
    }
    return Page(view, {"figures": {figure.key: figure.describe() for figure in figures}})


def training_figures(runs: Sequence[TrainingFiles]) -> list[Figure]:
    """Every figure of the page: evaluations, then a curve per metric."""
    return training_section(runs)[1]


def training_section(runs: Sequence[TrainingFiles]) -> tuple[Json, list[Figure]]:
    """What the template prints of these runs, and the figures it names."""
    metrics = metric_figures(runs)
    evaluated = [figure for figure in (evaluation_figure(runs), progress_figure(runs)) if figure]
    main = [figure.key for figure in metrics if figure.title in MAIN]
    alarms = alarm_table(runs)
    section = {
        "evaluated": [figure.key for figure in evaluated],
        "main": main,
        "more": [figure.key for figure in metrics if figure.key not in main],
        "alarms": shown_table(alarms) if isinstance(alarms, Table) else None,
        "runs": [[run.name, verdict(run)["text"], verdict(run)["alarms"]] for run in runs],
    }
    return section, [*evaluated, *metrics]
