"""Self-contained HTML pages from the files of run folders.

A diagnosis: which arm helps, how surely, and where in a response. A training run: its curves, alarms and evaluations.
Several runs: beside each other.

hydrometer report RUN            build_report(Path("runs/demo"))
"""

from hydrometer.report.build import COMPARISON, REPORT, build_comparison, build_report, end_with_report, run_kind
from hydrometer.report.files import RunFiles, read_run
from hydrometer.report.training_files import TrainingFiles, read_training
from hydrometer.report.training_view import training_figures
from hydrometer.report.view import build_figures, build_view

__all__ = [
    "COMPARISON",
    "REPORT",
    "RunFiles",
    "TrainingFiles",
    "build_comparison",
    "build_figures",
    "build_report",
    "build_view",
    "end_with_report",
    "read_run",
    "read_training",
    "run_kind",
    "training_figures",
]
