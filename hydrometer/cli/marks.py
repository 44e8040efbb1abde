"""Small pictures in text: an interval on an axis, and the course of a value."""

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def draw_interval(low: float, value: float, high: float, *, axis: tuple[float, float], width: int) -> str:
    """`──●──` where it lies on the axis, with `│` at zero; what the axis cuts off ends in an arrow."""

    def place(number: float) -> int:
        share = (min(max(number, axis[0]), axis[1]) - axis[0]) / (axis[1] - axis[0])
        return round(share * (width - 1))

    cells = [" "] * width
    if axis[0] <= 0.0 <= axis[1]:
        cells[place(0.0)] = "│"
    for cell in range(place(low), place(high) + 1):
        cells[cell] = "─" if cells[cell] == " " else "┼"
    if low < axis[0]:
        cells[0] = "◂"
    if high > axis[1]:
        cells[-1] = "▸"
    cells[place(value)] = "●"
    return "".join(cells)


def draw_history(values: Sequence[float], *, width: int) -> str:
    """The last values as bars between the smallest and the largest of them."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    if low == high:
        return _BARS[0] * len(shown)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in shown)
