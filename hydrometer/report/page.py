"""The view as one HTML page that needs nothing from outside itself.

Three fences against text that a model or a user wrote: every expression of the template is escaped and its invisible
characters are spelled out; embedded data holds no `<`, `>`, `&` nor line separators; the page's policy admits no script
but the one whose hash it names, and no network at all.
"""

import base64
import hashlib
import json
import math
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hydrometer.report.axis import place_on_axis
from hydrometer.report.visible import visible_text
from hydrometer.report.words import LIMIT, METRICS, OTHER_CONTINUATION, QUANTITIES

_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
ABSENT = "–"


def render_page(view: dict[str, Any]) -> str:
    """The page for a view (see `view.build_view`)."""
    script = _asset("page.js")
    template = _environment().from_string(_asset("page.html.jinja"))
    return template.render(
        view=view,
        metrics=METRICS,
        quantities=QUANTITIES,
        limit=LIMIT,
        other_continuation=OTHER_CONTINUATION,
        style=Markup(_asset("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        token_data=Markup(embed_json(view["tokens"])),
    )


def embed_json(value: Any) -> str:
    """JSON in ASCII that is safe inside a script element of any type, and reads back as the same value."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).translate(_ESCAPED)


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


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_harmless
    )
    environment.filters.update(
        at=place_on_axis,
        interval=format_interval,
        number=format_number,
        percent=format_percent,
        signed=format_signed,
        unit=format_unit,
        words=spell_name,
    )
    return environment


def _harmless(value: Any) -> Any:
    return visible_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return (resources.files("hydrometer.report") / name).read_text(encoding="utf-8")
