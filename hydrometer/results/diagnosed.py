"""A diagnosis as an object: what its folder holds, as frames, figures and a short page for a notebook."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hydrometer.artifacts import TABLES, read_json, read_run_json
from hydrometer.report import build_figures, read_run
from hydrometer.results.figures import RunFigure, as_run_figures
from hydrometer.results.ranking import rank_frame, score_frame
from hydrometer.results.show import show_diagnosis
from hydrometer.results.tables import read_named, scan_named


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finished diagnosis: its folder, and what `summary.json` says."""

    folder: Path
    summary: Mapping[str, Any] = field(repr=False)
    stages: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What this sitting spent (`Cost`), by stage; empty where the run was read from its folder."""

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return str(self.summary["verdict"])

    @property
    def ranking(self) -> pl.DataFrame:
        """One row per ranked arm, the best first; see `rank_frame`."""
        return rank_frame(self.summary)

    @property
    def scores(self) -> pl.DataFrame:
        """Every score of every arm on all, correct and incorrect responses; see `score_frame`."""
        return score_frame(self.summary)

    def table(self, name: str) -> pl.DataFrame:
        """One of the run's tables, e.g. `alignment`, `candidates`, `nodes`.

        Raises:
            UnknownNameError: a diagnosis has no such table.
            RunFolderError: its file is missing or damaged.
        """
        return read_named(self.folder, name, TABLES)

    def scan(self, name: str) -> pl.LazyFrame:
        """The same table without reading it yet: only the columns and rows that a query asks for are read."""
        return scan_named(self.folder, name, TABLES)

    @property
    def figures(self) -> Mapping[str, RunFigure]:
        """The figures of the report by name, e.g. `ranking`, `depth`; read from the folder's tables.

        Raises:
            RunFolderError: a file is missing or damaged, or comes from another schema version.
        """
        return as_run_figures(build_figures(read_run(self.folder)))

    def _repr_html_(self) -> str:
        return show_diagnosis(self.folder.name, self.verdict, self.ranking)


def open_diagnosis(folder: Path) -> Diagnosis:
    """Read a finished diagnosis from its folder; tables are read when they are asked for.

    Raises:
        RunFolderError: no finished diagnosis, or one of another schema version.
    """
    read_run_json(folder, "diagnosis")
    return Diagnosis(folder, read_json(folder / "summary.json"))
