"""Reads what a report needs from a run folder, and refuses tables whose columns are not those of this schema."""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from hydrometer.artifacts import TABLES, read_json, read_run_json, read_table
from hydrometer.errors import RunFolderError


class RunFiles(NamedTuple):
    """The content of a finished run folder."""

    name: str
    """The folder's name."""
    run: dict[str, Any]
    summary: dict[str, Any]
    questions: pl.DataFrame
    rollouts: pl.DataFrame
    nodes: pl.DataFrame
    candidates: pl.DataFrame
    teacher_scores: pl.DataFrame
    alignment: pl.DataFrame
    contexts: pl.DataFrame
    token_scores: pl.DataFrame
    advice: pl.DataFrame | None
    """None where an older version wrote the run."""


_ADDED = {
    *("parsed", "unparsed", "correct_strict", "correct_relaxed", "messages", "demos_by", "summariser"),
    "instances",
    *("reward_to_go", "reward_variance", "reward_success_covariance"),
    *("total_variation", "teacher_entropy_nats", "overlap_ratio", "student_overlap_mass", "teacher_overlap_mass"),
}
"""Columns that the report can do without: in the tables of older versions, which lack them, they are null."""


def read_run(folder: Path) -> RunFiles:
    """Every file a report is built from.

    Raises:
        RunFolderError: a file is missing or damaged, has another schema version, or lacks columns.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder; give the folder of a finished run.")
    run = read_run_json(folder, "diagnosis")
    summary = read_json(folder / "summary.json")
    names = [field for field in RunFiles._fields if field in TABLES and field != "advice"]
    tables = {name: _read_checked(folder / f"{name}.parquet", name) for name in names}
    advised = folder / "advice.parquet"
    advice = _read_checked(advised, "advice") if advised.exists() else None
    return RunFiles(name=folder.resolve().name, run=run, summary=summary, advice=advice, **tables)


def _read_checked(path: Path, name: str) -> pl.DataFrame:
    frame = read_table(path)
    absent = [column for column in TABLES[name] if column not in frame.columns]
    missing = [column for column in absent if column not in _ADDED]
    if missing:
        raise RunFolderError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} of the {name} table. "
            "It was written by another version; run the diagnosis again."
        )
    return frame.with_columns(pl.lit(None, TABLES[name][column]).alias(column) for column in absent)
