"""Draws the two kinds of figures of the report (`report.figures`) with matplotlib, without its global state.

intervals   a line per label: value, interval, a broader line for the narrower interval; panels beside each other
lines       value over x, a line per series, vertical lines for intervals and alarms
Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hydrometer.report.visible import visible_text

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MOST_CHARACTERS = 48
"""Of a label."""
_LABEL_INCHES = 0.085
_LINE_INCHES = 0.24
_COSINE_LIMIT = 1.08
"""Of an axis of cosines: jackknife intervals of few questions may leave [-1, 1] by far."""


def draw_figure(chart: Mapping[str, Any], rows: pl.DataFrame, title: str) -> Figure:
    """The figure of these rows.

    Args:
        chart: which column is what, see `report.figures`.
        rows: what is drawn; of every column that a reader chooses by, one value.
        title: of the figure.
    """
    canvas = Figure(layout="constrained")
    if chart["kind"] == "intervals":
        _draw_intervals(canvas, chart, rows)
        canvas.suptitle(_plain(title, 200), fontsize=11)
    else:
        _draw_lines(canvas, chart, rows).set_title(_plain(title, 200), fontsize=11)
    return canvas


def _draw_intervals(canvas: Figure, chart: Mapping[str, Any], rows: pl.DataFrame) -> None:
    labels = _values(rows, chart["y"])
    panels = _values(rows, chart["panel"]) if "panel" in chart else [None]
    series = _values(rows, chart["series"]) if "series" in chart else [None]
    longest = max((len(_plain(label)) for label in labels), default=0)
    heads = 0.9 + (len(series) > 1) * 0.3
    canvas.set_size_inches(
        _LABEL_INCHES * longest + 2.6 * len(panels) + (len(panels) == 1) * 2.0,
        _LINE_INCHES * len(labels) * max(1.0, 0.6 * len(series)) + heads,
    )
    axes = canvas.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        own = rows if panel is None else rows.filter(pl.col(chart["panel"]) == panel)
        for place, name in enumerate(series):
            part = own if name is None else own.filter(pl.col(chart["series"]) == name)
            shift = (place + 1) / (len(series) + 1) - 0.5
            heights = [labels.index(label) + shift for label in part[chart["y"]]]
            _draw_part(ax, chart, part, heights, _COLOURS[place % len(_COLOURS)], name)
        ax.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
        ax.grid(axis="x", color="0.92", zorder=0)
        ax.set_title(_plain(panel or ""), fontsize=9)
        if _unit(chart, rows) == "cosine":
            low, high = ax.get_xlim()
            ax.set_xlim(max(low, -_COSINE_LIMIT), min(high, _COSINE_LIMIT))
    axes[0].set_yticks(range(len(labels)), [_plain(label) for label in labels], fontsize=8)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    if len(series) > 1:
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(series), fontsize=8)


def _draw_part(
    ax: Axes, chart: Mapping[str, Any], rows: pl.DataFrame, heights: Sequence[float], colour: str, name: str | None
) -> None:
    """One series of one panel: narrower interval, interval, value; hollow where it has no interval."""
    broad = [*chart["inner"]] if "inner" in chart else []
    for height, row in zip(heights, rows.iter_rows(named=True), strict=True):
        if broad and row[broad[0]] is not None and row[broad[1]] is not None:
            ax.hlines(height, row[broad[0]], row[broad[1]], color=colour, linewidth=5, alpha=0.28)
        is_certain = row[chart["low"]] is not None and row[chart["high"]] is not None
        if is_certain:
            ax.hlines(height, row[chart["low"]], row[chart["high"]], color=colour, linewidth=1.4)
        if row[chart["x"]] is not None:
            ax.plot(row[chart["x"]], height, "o", color=colour, markerfacecolor=colour if is_certain else "white")
    if name is not None:
        ax.plot([], [], "o-", color=colour, label=_plain(name))


def _draw_lines(canvas: Figure, chart: Mapping[str, Any], rows: pl.DataFrame) -> Axes:
    canvas.set_size_inches(8.0, 4.0)
    ax = canvas.subplots()
    series = _values(rows, chart["series"]) if "series" in chart else [None]
    for place, name in enumerate(series):
        part = rows if name is None else rows.filter(pl.col(chart["series"]) == name)
        part = part.drop_nulls([chart["x"], chart["y"]]).sort(chart["x"])
        colour = _COLOURS[place % len(_COLOURS)]
        style = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        marker = "o" if chart.get("dots") else ""
        ax.plot(
            part[chart["x"]],
            part[chart["y"]],
            style,
            marker=marker,
            markersize=4,
            color=colour,
            label=_plain(name or ""),
        )
        if "low" in chart:
            known = part.drop_nulls([chart["low"], chart["high"]])
            ax.vlines(known[chart["x"]], known[chart["low"]], known[chart["high"]], color=colour, alpha=0.5)
    for alarm in chart.get("alarms", ()):
        ax.axvline(alarm["step"], color="#D55E00", linestyle="--", linewidth=1)
    if "scale" in rows.columns and rows["scale"].first() == "log":
        ax.set_xscale("log")
    ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0, visible=bool(chart.get("zero")))
    ax.grid(color="0.92", zorder=0)
    ax.set_xlabel(_plain(rows[chart["xLabelColumn"]].first() if "xLabelColumn" in chart else chart.get("xLabel", "")))
    if len(series) > 1:
        canvas.legend(loc="outside right upper", fontsize=8)
    return ax


def _plain(text: object, most: int = _MOST_CHARACTERS) -> str:
    """A text of a run as matplotlib shows it literally: no formula, and no name that a legend would leave out."""
    shown = visible_text(" ".join(str(text).split()))
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")


def _values(rows: pl.DataFrame, column: str) -> list[Any]:
    return rows[column].unique(maintain_order=True).to_list()


def _unit(chart: Mapping[str, Any], rows: pl.DataFrame) -> str | None:
    return chart.get("tick") or (rows[chart["unit"]].first() if "unit" in chart and rows.height else None)
