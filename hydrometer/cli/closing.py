"""What a command says last: on a terminal no more than a screen of it, and where its report is.

A screen has 24 lines, or as many as the terminal has. What does not fit is counted and left to the report; where nobody
reads on a screen (a log, a pipe) nothing is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from hydrometer.cli.printable import printable
from hydrometer.report import REPORT

_LINES = 24
"""Of the smallest screen that everything has to fit on."""
_PROMPT = 1


def lines_left(screen: Console, said: Sequence[RenderableType]) -> int | None:
    """Lines of the screen that these leave, with one for the shell's prompt; None where there is no screen."""
    if not screen.is_terminal:
        return None
    used = sum(len(screen.render_lines(part, pad=False)) for part in said)
    return max(_LINES, screen.height) - _PROMPT - used


def fitting(screen: Console, texts: Sequence[Text], room: int | None) -> Sequence[Text]:
    """The first of these that have room, one line kept for saying how many have not."""
    if room is None:
        return texts
    for count in range(len(texts), -1, -1):
        used = sum(len(screen.render_lines(text, pad=False)) for text in texts[:count])
        if used + (count < len(texts)) <= room:
            return texts[:count]
    return ()


def warning_texts(warnings: Sequence[str]) -> list[Text]:
    """Warnings of a run as they are printed."""
    return [Text(printable(f"- {warning}"), style="yellow") for warning in warnings]


def count_of(number: int, noun: str) -> str:
    """`1 warning`, `2 warnings`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def told_of_cache(cost: Mapping[str, Any]) -> str:
    """Stands behind the number of scored tokens; empty where none came from the score cache."""
    found = cost["cached_tokens"]
    return f" ({found:,} of them from the score cache)" if found else ""


def print_report(folder: Path, screen: Console) -> None:
    """Where the report of a run is; nothing where it could not be built, which has been told."""
    if (folder / REPORT).exists():
        screen.print(Text(printable(f"Report: {folder / REPORT}")), soft_wrap=True)
