"""Reads what a page about training needs from a run folder; a run that is still going on has its page too."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from hydrometer.artifacts import read_json, read_run_json, read_table
from hydrometer.errors import RunFolderError

Json = dict[str, Any]


class TrainingFiles(NamedTuple):
    """The content of the folder of a training run."""

    name: str
    """The folder's name."""
    run: Json
    metrics: list[Json]
    """One object per step, in order."""
    alarms: list[Json]
    summary: Json
    """Empty before the run has ended."""
    evaluation: pl.DataFrame | None
    """None where nothing was evaluated."""


def read_training(folder: Path) -> TrainingFiles:
    """Every file the page is built from.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    run = read_run_json(folder, "training")
    found, evaluated = folder / "summary.json", folder / "evaluation.parquet"
    return TrainingFiles(
        name=folder.resolve().name,
        run=run,
        metrics=_read_lines(folder / "metrics.jsonl"),
        alarms=_read_lines(folder / "alarms.jsonl") if (folder / "alarms.jsonl").exists() else [],
        summary=read_json(found) if found.exists() else {},
        evaluation=read_table(evaluated) if evaluated.exists() else None,
    )


def _read_lines(path: Path) -> list[Json]:
    """JSON objects, one a line; a last line that is not whole yet is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}): no training run is in this folder.") from error
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunFolderError(f"{path}, line {number} is no JSON: the file is damaged.") from error
        if not isinstance(row, dict):
            raise RunFolderError(f"{path}, line {number} is not an object: the file is damaged.")
        rows.append(row)
    return rows
