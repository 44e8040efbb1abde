"""What a probe hands back: tables, and what it says of each teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hydrometer.probes.responses import Written


@dataclass(frozen=True, slots=True)
class Findings:
    """A finished probe before it is written down."""

    written: list[Written]
    """Every graded response: the rows of `responses.parquet`."""
    teachers: Mapping[str, dict[str, Any]]
    """What is said of each teacher, `verdict` last."""
    skipped: Mapping[str, Mapping[str, str]]
    """Reasons by teacher and question."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What holds for all teachers."""
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """Tables beside `responses`, by the name of their file."""
    warnings: list[str] = field(default_factory=list)
