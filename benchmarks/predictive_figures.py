"""Figures of the study of predictive validity: scores against gains, and how all scores rank.

Bars are 95 % intervals: of a gain for other seeds and questions, of a rank correlation for other teachers.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.predictive_cells import BLOCKS, CELLS, PAPERS, PRIMARY, SECOND
from benchmarks.predictive_statistics import correlate, rank_correlation
from benchmarks.predictive_tables import LESSER, Evidence
from benchmarks.study_figures import COLOURS, STYLE, save_small

SHOWN = (PRIMARY, SECOND, PAPERS, "accuracy_gain", LESSER)


def draw_gains(evidence: Evidence, folder: Path) -> Path:
    """Gain against each of the main scores, a colour per block, into `folder/predictive-gains.png`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
            _scatter(axes, evidence, name)
        figure.axes[0].set_ylabel("gain by training, points")
        lines = figure.axes[0].lines[: len(BLOCKS)]
        figure.legend(lines, list(BLOCKS), loc="outside lower center", ncols=len(BLOCKS), frameon=False)
        return save_small(figure, folder / "predictive-gains.png")


def _scatter(axes: Axes, evidence: Evidence, name: str) -> None:
    score = evidence.scores[name]
    for block, colour in zip(range(len(BLOCKS)), COLOURS, strict=False):
        mine = evidence.blocks == block
        axes.plot(score[mine], 100 * evidence.gain[mine], "o", color=colour, markersize=3.5)
    for place, one in enumerate(evidence.gains):
        if one.estimate.low is None or one.estimate.high is None or np.isnan(score[place]):
            continue
        colour = COLOURS[evidence.blocks[place]]
        axes.plot([score[place]] * 2, [100 * one.estimate.low, 100 * one.estimate.high], color=colour, linewidth=0.5)
        axes.annotate(CELLS[place].teacher, (score[place], 100 * evidence.gain[place]), fontsize=4.5, color="#444444")
    axes.axhline(0.0, color="black", linewidth=0.5)
    axes.axvline(0.0, color="black", linewidth=0.5)
    found = rank_correlation(score, evidence.gain)
    said = "" if found is None else f"\nSpearman {found:+.2f}"
    axes.set(title=_words(name) + said)


def _words(name: str) -> str:
    score, _, who = name.partition(", ")
    return score.replace("_", " ") + (f", {who} continues" if who else "")


def draw_scores(evidence: Evidence, folder: Path) -> Path:
    """Rank correlation of every score, into `folder/predictive-scores.png`."""
    found = {
        name: correlate(score, evidence.gain, evidence.teachers, np.random.default_rng(7))
        for name, score in evidence.scores.items()
    }
    order: Sequence[str] = sorted(
        (name for name in found if found[name].value is not None), key=lambda name: found[name].value or 0.0
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 0.6 + 0.16 * len(order)), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(order):
            one = found[name]
            colour = COLOURS[0] if "teacher" in name.partition(", ")[2] else COLOURS[1] if ", " in name else COLOURS[5]
            axes.plot(one.value or 0.0, row, "o", color=colour, markersize=4)
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [row, row], color=colour, linewidth=1)
        axes.set_yticks(range(len(order)), [_words(name) for name in order], fontsize=6.5)
        axes.axvline(0.0, color="black", linewidth=0.5)
        axes.set(xlim=(-1, 1), title="Spearman of score and gain over cells; intervals for other teachers")
        return save_small(figure, folder / "predictive-scores.png")
