"""From run folders to their pages: read the files, build the view, write the page."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydrometer.artifacts import read_json, write_text
from hydrometer.errors import RunFolderError, UserError
from hydrometer.report.comparison import build_comparison_view
from hydrometer.report.files import read_run
from hydrometer.report.page import render_page
from hydrometer.report.plain_runs import build_plain_view
from hydrometer.report.training_files import read_training
from hydrometer.report.training_view import build_training_view
from hydrometer.report.view import build_view

REPORT = "report.html"
COMPARISON = "comparison.html"


def build_report(folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path; an older one is replaced.

    Raises:
        RunFolderError: a file is missing or damaged, or comes from another schema version.
        DiskError: the page cannot be written.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder; give the folder of a run.")
    match run_kind(folder):
        case "diagnosis":
            template, page = "diagnosis.html.jinja", build_view(read_run(folder))
        case "training":
            template, page = "training.html.jinja", build_training_view(read_training(folder))
        case _:
            template, page = "plain.html.jinja", build_plain_view(folder)
    path = folder / REPORT
    write_text(path, render_page(template, page.view, page.data))
    return path


def end_with_report(folder: Path, tell: Callable[[str], None]) -> None:
    """What every command does last with its run folder: write the report, or `tell` in a sentence why there is none.

    The run is complete without its report, so that nothing that goes wrong here may end it.
    """
    try:
        build_report(folder)
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        tell(f"The report could not be built ({reason}). The run is complete; try: hydrometer report {folder}")
        with suppress(OSError):  # one of an earlier sitting would not show this run
            (folder / REPORT).unlink(missing_ok=True)


def build_comparison(
    path: Path,
    folders: Sequence[Path],
    *,
    diagnoses: Mapping[str, Sequence[Mapping[str, Any]]] | None,
    reason: str | None = None,
) -> Path:
    """Write a page of several runs to `path` and return it.

    Args:
        path: of the page; an older one is replaced.
        folders: run folders; those of training runs are overlaid.
        diagnoses: the tables of `alignment.compare_runs` as rows; None where they were not compared.
        reason: why not.

    Raises:
        RunFolderError: a file is missing or damaged.
        DiskError: the page cannot be written.
    """
    trained = [read_training(folder) for folder in folders if run_kind(folder) == "training"]
    names = distinct_names([run.name for run in trained], [f for f in folders if run_kind(f) == "training"])
    trained = [run._replace(name=name) for run, name in zip(trained, names, strict=True)]
    page = build_comparison_view(" · ".join(folder.resolve().name for folder in folders), diagnoses, reason, trained)
    write_text(path, render_page("comparison.html.jinja", page.view, page.data))
    return path


def run_kind(folder: Path) -> str:
    """`diagnosis`, `training`, `evaluation`, `probe` ...; of older folders, which do not say, `diagnosis`.

    Raises:
        RunFolderError: the folder holds no run.
    """
    summary = folder / "summary.json"
    if not (folder / "run.json").exists() and summary.exists() and "recipe" in read_json(summary):
        return "recipe"
    return str(read_json(folder / "run.json").get("kind") or "diagnosis")


def distinct_names(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Folder names, with their parents' where two are alike."""
    if len(set(names)) == len(names):
        return list(names)
    return [str(folder) for folder in folders]
