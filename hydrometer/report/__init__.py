"""Self-contained HTML pages from the files of run folders.

A diagnosis: which arm helps, how surely, and where in a response. A training run: its curves, alarms and evaluations.
Several runs: beside each other.

hydrometer report RUN            build_report(Path("runs/demo"))
"""

from hydrometer.report.build import COMPARISON, build_comparison, build_report, run_kind
from hydrometer.report.files import RunFiles, read_run
from hydrometer.report.view import build_view

__all__ = ["COMPARISON", "RunFiles", "build_comparison", "build_report", "build_view", "read_run", "run_kind"]
