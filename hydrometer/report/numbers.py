"""Numbers as they are read: signs, percentages, intervals, counts."""

import math
from typing import Any

ABSENT = "–"


def format_signed(value: float | None, digits: int = 2) -> str:
    """`+0.28`, `−0.06`, `0.00`; a dash where there is no value."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")


def format_percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage."""
    return ABSENT if value is None or not math.isfinite(value) else f"{100.0 * value:.{digits}f} %"


def format_unit(value: float | None, unit: str) -> str:
    """A number: `cosine` two decimals, `rate` three, `share` a percentage, `percent_points` signed, `number` plain."""
    match unit:
        case "share":
            return format_percent(value)
        case "percent_points":
            return ABSENT if value is None or not math.isfinite(value) else f"{format_signed(100.0 * value, 0)} points"
        case "number":
            return format_number(value)
        case "rate":
            return format_signed(value, 3)
        case _:
            return format_signed(value)


def format_interval(ends: list[float] | None, unit: str = "cosine") -> str:
    """Both ends in brackets."""
    return "" if ends is None else f"[{format_unit(ends[0], unit)}, {format_unit(ends[1], unit)}]"


def format_number(value: Any) -> str:
    """Counts with separators, other numbers with four significant digits, text as it is."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
    return str(value)


def spell_name(name: str) -> str:
    """A column or field as words; a trailing `_s` is its unit, seconds."""
    return f"{name.removesuffix('_s')} time, seconds" if name.endswith("_s") else name.replace("_", " ")
