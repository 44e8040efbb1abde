"""What a probe hands back: tables, what it says of each teacher, and how its sentences write numbers."""

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


def percent(entry: Mapping[str, Any]) -> str:
    """A share with its interval, in a sentence."""
    return f"{100 * entry['value']:.1f} %{_interval(entry, '{:.1f}')}"


def points(entry: Mapping[str, Any]) -> str:
    """A difference of shares with its interval, in a sentence."""
    return f"{100 * entry['value']:+.1f} points{_interval(entry, '{:+.1f}')}"


def _interval(entry: Mapping[str, Any], form: str) -> str:
    if entry["low"] is None:
        return ""
    return f" [{form.format(100 * entry['low'])}, {form.format(100 * entry['high'])}]"
