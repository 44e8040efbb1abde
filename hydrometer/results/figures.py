"""A figure of the report as an object: its rows as a frame, and drawn by matplotlib for a notebook or a paper.

figure = run.figures["ranking"]
figure.choices                                  {"metric": ["Ranking score", "Pooled cosine", ...]}
figure.draw({"metric": "Pooled cosine"}).savefig("ranking.pdf")
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import polars as pl

from hydrometer.errors import UnknownNameError, UserError
from hydrometer.report.figures import Figure

_DPI = 110


@dataclass(frozen=True, slots=True)
class RunFigure:
    """One figure of a run. In a notebook it shows itself."""

    name: str
    title: str
    note: str = field(repr=False)
    """What is drawn and what its intervals are."""
    described: Figure = field(repr=False)

    @property
    def frame(self) -> pl.DataFrame:
        """Every row that can be drawn, whatever is chosen."""
        rows = [dict(zip(self.described.columns, row, strict=True)) for row in self.described.rows]
        return pl.DataFrame(rows, infer_schema_length=None).drop("hover", strict=False)

    @property
    def choices(self) -> dict[str, list[Any]]:
        """Columns by whose values a reader chooses what is drawn, and those values; the first is the default."""
        return {name: self.frame[name].unique(maintain_order=True).to_list() for name in self.described.filters}

    def choose(self, chosen: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """The rows that are drawn: of every column in `choices` the chosen value, or the first that is left.

        Raises:
            UnknownNameError: there is nothing to choose by this name, or nothing of this value.
        """
        wanted, frame = dict(chosen or {}), self.frame
        for name in self.described.filters:
            values = frame[name].unique(maintain_order=True).to_list()
            value = wanted.pop(name, values[0] if values else None)
            if value not in values:
                raise UnknownNameError(name, str(value), map(str, values))
            frame = frame.filter(pl.col(name) == value)
        for name in wanted:
            raise UnknownNameError("choice", name, self.described.filters)
        return frame

    def draw(self, chosen: Mapping[str, Any] | None = None) -> Any:
        """The figure as a `matplotlib.figure.Figure`, whose axes can be changed and which saves as PNG, SVG or PDF.

        Raises:
            UnknownNameError: see `choose`.
            UserError: matplotlib is not installed.
        """
        try:
            from hydrometer.results.drawing import draw_figure
        except ModuleNotFoundError as error:
            raise UserError("Figures are drawn by matplotlib: pip install 'hydrometer[notebook]'.") from error
        rows = self.choose(chosen)
        told = [str(rows[name].first()) for name in self.described.filters if rows.height]
        return draw_figure(self.described.chart, rows, ": ".join([self.title, *([", ".join(told)] if told else [])]))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.draw().savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()


def as_run_figures(figures: Iterable[Figure]) -> Mapping[str, RunFigure]:
    """Figures of the report by their key."""
    return MappingProxyType({one.key: RunFigure(one.key, one.title, one.note, one) for one in figures})
