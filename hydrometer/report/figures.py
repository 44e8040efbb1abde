"""A figure as data: rows in long form, how they are drawn, and the same numbers as a table.

Chart kinds, drawn by assets/charts.js:
    intervals   one line per label: value, interval, optionally a narrower interval; several series beside each other
    lines       value over x, one line per series, optionally with a band
    dots        one dot per row
What a reader hovers over is the column `hover`; a CSV holds the other columns, of all rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydrometer.report.visible import visible_text

Json = dict[str, Any]
DIGITS = 4
"""Significant digits of a number on the page."""


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page."""

    key: str
    """Its name in files that are saved and in the page's addresses."""
    title: str
    note: str
    chart: Mapping[str, Any]
    """`kind`, and which column is `y`, `x`, `low`, `high`, `series` ..."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    filters: Sequence[str] = ()
    """Columns by whose values a reader chooses what is drawn."""
    table: Table | None = None
    """The numbers as they are to be read; None: made from the rows."""

    def describe(self) -> Json:
        """As JSON, every text visible and harmless, every number finite and rounded."""
        found = {
            "key": self.key,
            "title": visible_text(self.title),
            "note": visible_text(self.note),
            "chart": {name: _chart_value(value) for name, value in self.chart.items()},
            "columns": list(self.columns),
            "rows": [[_cell(value) for value in row] for row in self.rows],
            "filters": list(self.filters),
        }
        if self.table is not None:
            rows = [[visible_text(cell) for cell in row] for row in self.table.rows]
            found["table"] = {"columns": [visible_text(name) for name in self.table.columns], "rows": rows}
        return found


def rounded(value: float | None, digits: int = DIGITS) -> float | None:
    """With this many significant digits; what is not finite becomes null."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _cell(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value
    return rounded(value) if isinstance(value, float) else visible_text(str(value))


def _chart_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _chart_value(inner) for name, inner in value.items()}
    return [_chart_value(inner) for inner in value] if isinstance(value, list) else _cell(value)
