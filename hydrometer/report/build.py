"""From a run folder to its report: read the files, build the view, write the page."""

from pathlib import Path

from hydrometer.artifacts import write_text
from hydrometer.report.files import read_run
from hydrometer.report.page import render_page
from hydrometer.report.view import build_view

REPORT = "report.html"


def build_report(folder: Path) -> Path:
    """Write `report.html` into a finished run folder and return its path; an older one is replaced.

    Raises:
        RunFolderError: a file is missing or damaged, or comes from another schema version.
        DiskError: the page cannot be written.
    """
    page = render_page(build_view(read_run(folder)))
    path = folder / REPORT
    write_text(path, page)
    return path
