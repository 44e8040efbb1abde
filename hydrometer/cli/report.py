"""`hydrometer report`."""

from pathlib import Path

from rich.console import Console

from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError
from hydrometer.report import build_report


def report(*folders: Path) -> None:
    """Rebuild report.html of run folders from their files alone.

    Args:
        folders: Run folders.
    """
    if not folders:
        raise SpecError("report needs at least one run folder: hydrometer report DIR [DIR ...]")
    for folder in folders:
        Console().print(printable(str(build_report(folder))), soft_wrap=True, highlight=False, markup=False)
