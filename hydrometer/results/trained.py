"""A training run as an object: its metrics and evaluations as frames, its curves as figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hydrometer.artifacts import read_json, read_run_json
from hydrometer.report import read_training, training_figures
from hydrometer.results.figures import RunFigure, as_run_figures
from hydrometer.results.tables import read_named

_TABLES = ("evaluation",)


@dataclass(frozen=True, slots=True)
class Training:
    """A training run: its folder, and what `summary.json` says (nothing before the run has ended)."""

    folder: Path
    summary: Mapping[str, Any] = field(repr=False)

    def table(self, name: str) -> pl.DataFrame:
        """One of the run's tables: `evaluation`.

        Raises:
            UnknownNameError: a training run has no such table.
            RunFolderError: its file is missing or damaged.
        """
        return read_named(self.folder, name, _TABLES)

    @property
    def metrics(self) -> pl.DataFrame:
        """`metrics.jsonl`: one row per step."""
        return pl.DataFrame(read_training(self.folder).metrics, infer_schema_length=None)

    @property
    def alarms(self) -> pl.DataFrame:
        """`alarms.jsonl`: one row per sign of failure, with its mechanism and its cure."""
        return pl.DataFrame(read_training(self.folder).alarms, schema=_ALARM)

    @property
    def figures(self) -> Mapping[str, RunFigure]:
        """The figures of the report by name: `evaluation`, and `metric-NAME` for every metric.

        Raises:
            RunFolderError: a file is missing or damaged.
        """
        return as_run_figures(training_figures([read_training(self.folder)]))


_ALARM: dict[str, Any] = {
    "name": pl.String,
    "step": pl.Int64,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "metrics": pl.List(pl.String),
    "mechanism": pl.String,
    "cure": pl.String,
}


def open_training(folder: Path) -> Training:
    """Read a training run from its folder, also one that is still going on.

    Raises:
        RunFolderError: no training run, or one of another schema version.
    """
    read_run_json(folder, "training")
    summary = folder / "summary.json"
    return Training(folder, read_json(summary) if summary.exists() else {})
