"""The horizontal axis of an interval plot: a range that holds what is to be seen, round ticks, places in percent."""

import math
from collections.abc import Iterable
from typing import Any

COSINE_LIMIT = 1.1
"""Jackknife intervals of few questions may leave [-1, 1] by far; they are cut here and drawn with an arrow."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def build_axis(values: Iterable[float | None], *, limit: float = COSINE_LIMIT, ticks: int = 6) -> dict[str, Any]:
    """`low`, `high` and `ticks` of an axis that holds 0 and all `values` within +-`limit`."""
    inside = [min(max(value, -limit), limit) for value in values if value is not None and math.isfinite(value)]
    low, high = min([0.0, *inside]), max([0.0, *inside])
    if high - low < 1e-9:
        low, high = -0.5, 0.5
    margin = 0.06 * (high - low)
    low, high = low - margin, high + margin
    step = _round_step((high - low) / ticks)
    first = math.ceil(low / step)
    places = [round((first + index) * step, 10) + 0.0 for index in range(ticks + 2)]
    return {"low": low, "high": high, "ticks": [place for place in places if place <= high]}


def place_on_axis(value: float, axis: dict[str, Any]) -> float:
    """Percent from the left end, cut at both ends."""
    share = (value - axis["low"]) / (axis["high"] - axis["low"])
    return round(100.0 * min(max(share, 0.0), 1.0), 3)


def _round_step(raw: float) -> float:
    scale = 10.0 ** math.floor(math.log10(raw))
    return next(step * scale for step in _STEPS if step * scale >= raw * (1 - 1e-9))
