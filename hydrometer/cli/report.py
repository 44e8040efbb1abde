"""`hydrometer report`: every run's report, and several runs side by side."""

import json as json_format
import sys
from pathlib import Path

from rich.console import Console

from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError, UserError
from hydrometer.report import COMPARISON, build_comparison, build_report, run_kind


def report(*folders: Path, out: Path | None = None, json: bool = False) -> None:
    """Rebuild report.html of run folders from their files alone; with several, compare the runs.

    Args:
        folders: Folders of diagnoses, training runs, evaluations, probes or recipes. Diagnoses of different students
            with the same questions and teachers are compared: scores, differences, and whether a teacher helps one
            student more than another. Training runs are laid over each other.
        out: Where the page of several runs goes (default: comparison.html).
        json: Print the reports' paths and the comparison on stdout; everything else goes to stderr.
    """
    if not folders:
        raise SpecError("report needs at least one run folder: hydrometer report DIR [DIR ...]")
    if out is not None and len(folders) < 2:
        raise SpecError("--out names the page that compares several runs: give two or more run folders.")
    screen = Console(stderr=json, highlight=False, markup=False, emoji=False)
    built = []
    for folder in folders:
        built.append(str(build_report(folder)))
        screen.print(printable(built[-1]), soft_wrap=True)
    compared = _compare(folders, out or Path(COMPARISON), screen) if len(folders) > 1 else {}
    if json:
        sys.stdout.write(json_format.dumps({"reports": built, **compared}, allow_nan=False) + "\n")


def _compare(folders: tuple[Path, ...], out: Path, screen: Console) -> dict[str, object]:
    """Print the comparison, or why there is none, and write its page; the reports are built either way."""
    trained = [folder for folder in folders if run_kind(folder) == "training"]
    diagnosed = tuple(folder for folder in folders if run_kind(folder) == "diagnosis")
    tables, reason = None, None
    if len(diagnosed) > 1 or not trained:
        tables, reason = _compare_diagnoses(diagnosed if trained else folders, screen)
    page = None
    if tables is not None or trained:
        page = str(build_comparison(out, folders, diagnoses=tables, reason=reason))
        screen.print(printable(page), soft_wrap=True)
    return {"comparison": tables, "reason": reason, "page": page}


def _compare_diagnoses(
    folders: tuple[Path, ...], screen: Console
) -> tuple[dict[str, list[dict[str, object]]] | None, str | None]:
    from hydrometer.alignment.comparison import compare_runs
    from hydrometer.cli.comparison import print_comparison

    try:
        comparison = compare_runs(folders)
    except UserError as error:
        screen.print(printable(f"\nNot compared. {error}"), soft_wrap=True)
        return None, str(error)
    print_comparison(comparison, screen)
    return {name: table.to_dicts() for name, table in comparison._asdict().items()}, None
