"""What a command says last: what it had for nothing, for the line about its cost, and where its report is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hydrometer.cli.printable import printable
from hydrometer.report import REPORT


def told_of_cache(cost: Mapping[str, Any]) -> str:
    """Stands behind the number of scored tokens; empty where none came from the score cache."""
    found = cost["cached_tokens"]
    return f" ({found:,} of them from the score cache)" if found else ""


def print_report(folder: Path, screen: Console) -> None:
    """Where the report of a run is; nothing where it could not be built, which has been told."""
    if (folder / REPORT).exists():
        screen.print(Text(printable(f"Report: {folder / REPORT}")), soft_wrap=True)
