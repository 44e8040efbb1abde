"""One figure per part of the study: test accuracy by arm, and three metrics over the steps.

Thin lines and small dots are seeds, thick lines and bars their means; curves are running means over five steps.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.study_parts import PARTS
from benchmarks.study_results import LAST_STEPS, after, before, read_curve, seeds_of, teacher_shares
from hydrometer.artifacts.metrics import find_metric

COLOURS = ("#1f5fa8", "#c8452e", "#e39a3b", "#8c5aa8", "#2f9a6e", "#6b6b6b", "#17a3b8", "#b04a86")
"""Of the arms of a part, in their order."""
PALETTE = 64
"""Colours of a file: a fifth of the bytes."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
}


def draw_part(out: Path, name: str, folder: Path) -> Path:
    """Draw one part from the seeds that are there into `folder/study-NAME.png`."""
    part = PARTS[name]
    arms = [arm for arm in part.arms if seeds_of(out, arm)]
    colours = dict(zip(part.arms, COLOURS, strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.5 + 0.15 * max(len(arms), 5)), layout="constrained")
        first, *others = figure.subplots(1, 1 + len(part.drawn))
        _draw_accuracies(first, out, arms, colours)
        for axes, metric in zip(others, part.drawn, strict=True):
            _draw_curves(axes, out, arms, colours, metric)
        return save_small(figure, folder / f"study-{name}.png")


def save_small(figure: Figure, path: Path) -> Path:
    """Write a figure with few colours."""
    figure.savefig(drawn := BytesIO(), dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(path, optimize=True)
    return path


def _draw_accuracies(axes: Axes, out: Path, arms: list[str], colours: Mapping[str, str]) -> None:
    """Test accuracy before (open), after (bar and dots by seed), and of the teacher (cross)."""
    for row, arm in enumerate(arms):
        seeds = seeds_of(out, arm)
        ends = 100 * after(out, arm, seeds).mean(1)
        axes.barh(row, ends.mean(), color=colours[arm], alpha=0.35, height=0.7)
        axes.plot(ends, [row] * len(ends), ".", color=colours[arm], markersize=5)
        start = 100 * float(before(out, arm, seeds).mean())
        axes.plot(start, row, "|", color="black", markersize=9)
        teacher = teacher_shares(out, arm)
        if teacher is not None:
            axes.plot(100 * teacher.mean(), row, "x", color="black", markersize=4, clip_on=False)
    axes.set_yticks(range(len(arms)), arms)
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(colours[arm])
    axes.set(xlim=(0, 100), ylim=(len(arms) - 0.4, -0.6), title="test accuracy, %", xlabel="| before    × teacher")
    axes.grid(visible=False, axis="y")


def _draw_curves(axes: Axes, out: Path, arms: list[str], colours: Mapping[str, str], metric: str) -> None:
    for arm in arms:
        curves = np.stack([smooth(read_curve(out, arm, seed, metric)) for seed in seeds_of(out, arm)])
        steps = np.arange(1, curves.shape[1] + 1)
        for curve in curves:
            axes.plot(steps, curve, color=colours[arm], alpha=0.3, linewidth=0.6)
        axes.plot(steps, curves.mean(0), color=colours[arm], linewidth=1.6)
    unit = find_metric(metric).unit
    named = metric if metric != "accuracy" else "accuracy of the rollouts"
    axes.set(title=f"{named}, {unit}" if unit == "nats" else named, xlabel="step")


def smooth(curve: Float[np.ndarray, " step"]) -> Float[np.ndarray, " step"]:
    """The mean of each step and up to four before it; NaN where one of them is."""
    return np.array([curve[max(end - LAST_STEPS, 0) : end].mean() for end in range(1, len(curve) + 1)])
