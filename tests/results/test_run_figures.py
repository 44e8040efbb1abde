"""A drawn figure holds the numbers of its frame, at the places where a reader looks for them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import hydrometer
from hydrometer.errors import UnknownNameError
from hydrometer.report.figures import Figure
from hydrometer.results import Diagnosis, Training
from hydrometer.results.figures import as_run_figures


def _open(folder: Path) -> Diagnosis:
    run = hydrometer.open_run(folder)
    assert isinstance(run, Diagnosis)
    return run


def _dots(ax) -> list[tuple[float, float]]:
    """x and height of the single dots of an axis."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]


def test_the_ranking_is_drawn_in_its_order(small_diagnosis: Path):
    run = _open(small_diagnosis)
    canvas = run.figures["ranking"].draw()
    panels = [ax.get_title() for ax in canvas.axes]
    assert panels == ["all", "correct", "incorrect"]
    dots = _dots(canvas.axes[0])
    assert [height for _, height in dots] == [0.0, 1.0, 2.0]
    assert [x for x, _ in dots] == pytest.approx(run.ranking["score"].to_list(), rel=1e-3)
    shown = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
    assert [text.removeprefix("★ ").split(",")[0] for text in shown] == run.ranking["teacher"].to_list()


def test_another_metric_is_drawn_when_it_is_chosen(small_diagnosis: Path):
    run = _open(small_diagnosis)
    ranking = run.figures["ranking"]
    assert ranking.choices["metric"][0] == "Ranking score"
    canvas = ranking.draw({"metric": "Mean advantage"})
    expected = run.scores.filter(split="incorrect", score="mean_advantage").sort("teacher")["value"].to_list()
    assert sorted(x for x, _ in _dots(canvas.axes[2])) == pytest.approx(sorted(expected), rel=1e-3)
    with pytest.raises(UnknownNameError, match="Did you mean Pooled cosine"):
        ranking.draw({"metric": "pooled cosine"})
    with pytest.raises(UnknownNameError, match="Unknown choice 'metrik'"):
        ranking.draw({"metrik": "Pooled cosine"})


def test_the_default_of_a_choice_is_one_that_has_rows(small_diagnosis: Path):
    depth = _open(small_diagnosis).figures["depth"]
    for by in depth.choices["by"]:
        assert depth.choose({"by": by}).height > 0


def test_curves_go_through_the_metrics(small_training: Path):
    run = hydrometer.open_run(small_training)
    assert isinstance(run, Training)
    ax = run.figures["metric-reverse_kl"].draw().axes[0]
    curve = ax.lines[0]
    np.testing.assert_allclose(curve.get_ydata(), run.metrics["reverse_kl"].to_numpy(), rtol=1e-12)
    assert list(curve.get_xdata()) == [1, 2, 3]
    assert ax.get_xlabel() == "step"


def test_figures_show_themselves_in_a_notebook(small_diagnosis: Path):
    figures = _open(small_diagnosis).figures
    assert {"ranking", "depth", "distance", "outcomes"} <= figures.keys()
    for figure in figures.values():
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert "hover" not in figure.frame.columns


def _figure(chart: dict[str, object], rows: list[list[object]]) -> Figure:
    columns = ("arm", "series", "value", "low", "high", "unit")
    return Figure("one", "A $title_", "", chart, columns, rows)


def test_names_are_shown_literally_and_gaps_stay_gaps():
    rows = [["cost $x_1$ \u202e", "_hidden", 0.5, -4.0, 3.0, "cosine"], ["b", "_hidden", None, None, None, "cosine"]]
    rows += [["b", "seen", 0.25, None, None, "cosine"]]
    chart = {"kind": "intervals", "y": "arm", "x": "value", "low": "low", "high": "high", "unit": "unit"}
    [figure] = as_run_figures([_figure(chart | {"series": "series"}, rows)]).values()
    canvas = figure.draw()
    labels = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
    assert labels == [r"cost \$x_1\$ ⟨U+202E⟩", "b"]
    [legend] = canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == [" _hidden", "seen"]
    assert [x for x, _ in _dots(canvas.axes[0])] == [0.5, 0.25]
    hollow = [line.get_markerfacecolor() for line in canvas.axes[0].lines if len(line.get_xdata()) == 1]
    assert hollow[0] != "white" and hollow[1] == "white"
    low, high = canvas.axes[0].get_xlim()
    assert low >= -1.08 and high <= 1.08


def test_lines_leave_out_what_has_no_value_and_draw_alarms():
    rows = [
        [3, "run", 2.0, 1.0, 3.0, "nats"],
        [1, "run", 4.0, None, None, "nats"],
        [2, "run", None, None, None, "nats"],
    ]
    alarm = {"run": "run", "step": 2, "text": "run, step 2: repetition"}
    chart = {"kind": "lines", "x": "arm", "y": "value", "low": "low", "high": "high", "series": "series"}
    [figure] = as_run_figures([_figure(chart | {"alarms": [alarm]}, rows)]).values()
    ax = figure.draw().axes[0]
    assert list(ax.lines[0].get_xdata()) == [1, 3]
    assert list(ax.lines[0].get_ydata()) == [4.0, 2.0]
    assert list(ax.lines[1].get_xdata()) == [2, 2]
    [bars] = ax.collections
    assert [segment.tolist() for segment in bars.get_segments()] == [[[3.0, 1.0], [3.0, 3.0]]]
    assert isinstance(figure.frame, pl.DataFrame) and figure.frame.height == 3
