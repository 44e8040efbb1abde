"""Tables of a run folder by their name, at once or lazily."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from hydrometer.artifacts import read_table, scan_table
from hydrometer.errors import UnknownNameError


def read_named(folder: Path, name: str, known: Iterable[str]) -> pl.DataFrame:
    """The table `name`.

    Raises:
        UnknownNameError: it is none of the tables `known`.
        RunFolderError: its file is missing or damaged.
    """
    return read_table(_path(folder, name, known))


def scan_named(folder: Path, name: str, known: Iterable[str]) -> pl.LazyFrame:
    """The table `name`, of which nothing but the columns' names and types is read yet.

    Raises:
        UnknownNameError: it is none of the tables `known`.
        RunFolderError: its file is missing or damaged.
    """
    return scan_table(_path(folder, name, known))


def _path(folder: Path, name: str, known: Iterable[str]) -> Path:
    if name not in (names := list(known)):
        raise UnknownNameError("table", name, names)
    return folder / f"{name}.parquet"
