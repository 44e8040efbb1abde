"""Views as HTML pages that need nothing from outside themselves.

Three fences against text that a model or a user wrote: every expression of the templates is escaped and its invisible
characters are spelled out; embedded data is base64; the page's policy admits no script but those whose hashes it names,
and no network at all. Figures are drawn by Observable Plot, which stands in the page as published (assets/vendor).
"""

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hydrometer.report.embedding import embed
from hydrometer.report.numbers import format_interval, format_number, format_percent, format_signed, spell_name
from hydrometer.report.values import NOTE
from hydrometer.report.visible import visible_text
from hydrometer.report.words import KEYS, LIMIT, OTHER_CONTINUATION, QUANTITIES

LIBRARIES = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
MODULES = ("elements.js", "charts.js", "figures.js", "tokens.js", "node.js", "questions.js", "start.js")
"""Parts of the page's own script, in order; they share one scope."""


def render_page(template: str, view: dict[str, Any], data: dict[str, Any]) -> str:
    """A page.

    Args:
        template: file among the assets.
        view: what the template prints.
        data: what the script draws: `figures` by key and, for a diagnosis, `tokens` and `questions`.
    """
    libraries = "\n".join(_asset(name).strip() for name in LIBRARIES)
    scripts = [f"/*\n{_asset('vendor/LICENSES.txt')}*/\n{libraries}"]
    scripts.append("(() => {\n" + '"use strict";\n' + "".join(_asset(name) for name in MODULES) + "})();")
    return (
        _environment()
        .get_template(template)
        .render(
            view=view,
            keys=KEYS,
            quantities=QUANTITIES,
            limit=LIMIT,
            other_continuation=OTHER_CONTINUATION,
            note_on_values=NOTE,
            style=Markup(_asset("style.css")),
            scripts=[Markup(script) for script in scripts],
            script_hashes=Markup(" ".join(f"'sha256-{_hash(script)}'" for script in scripts)),
            data=Markup(embed({"figures": {}} | data)),
        )
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(
        interval=format_interval, number=format_number, percent=format_percent, signed=format_signed, words=spell_name
    )
    return environment


def _harmless(value: Any) -> Any:
    return visible_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return (resources.files("hydrometer.report") / "assets" / name).read_text(encoding="utf-8")
