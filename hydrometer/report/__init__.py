"""One self-contained HTML file from the files of a run folder: which arm helps, how surely, and where in a response.

hydrometer report RUN            build_report(Path("runs/demo"))
"""

from hydrometer.report.build import build_report
from hydrometer.report.files import RunFiles, read_run
from hydrometer.report.view import build_view

__all__ = ["RunFiles", "build_report", "build_view", "read_run"]
