"""`hydrometer report`: every run's report, and several runs side by side."""

import json as json_format
import sys
from pathlib import Path

from rich.console import Console

from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError, UserError
from hydrometer.report import build_report


def report(*folders: Path, json: bool = False) -> None:
    """Rebuild report.html of run folders from their files alone; with several, compare the runs.

    Args:
        folders: Run folders. Two or more diagnoses of different students with the same questions and teachers are
            compared: scores, differences, and whether a teacher helps one student more than another.
        json: Print the reports' paths and the comparison on stdout; everything else goes to stderr.
    """
    if not folders:
        raise SpecError("report needs at least one run folder: hydrometer report DIR [DIR ...]")
    screen = Console(stderr=json, highlight=False, markup=False, emoji=False)
    built = []
    for folder in folders:
        built.append(str(build_report(folder)))
        screen.print(printable(built[-1]), soft_wrap=True)
    compared = _compare(folders, screen) if len(folders) > 1 else {}
    if json:
        sys.stdout.write(json_format.dumps({"reports": built, **compared}, allow_nan=False) + "\n")


def _compare(folders: tuple[Path, ...], screen: Console) -> dict[str, object]:
    """Print the comparison, or why there is none; the reports are built either way."""
    from hydrometer.alignment.comparison import compare_runs
    from hydrometer.cli.comparison import print_comparison

    try:
        comparison = compare_runs(folders)
    except UserError as error:
        screen.print(printable(f"\nNot compared. {error}"), soft_wrap=True)
        return {"comparison": None, "reason": str(error)}
    print_comparison(comparison, screen)
    tables = {name: table.to_dicts() for name, table in comparison._asdict().items()}
    return {"comparison": tables, "reason": None}
