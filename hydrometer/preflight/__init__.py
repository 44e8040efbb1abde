"""Checks before a run is paid for: mistakes that cost training runs, each found by asking the models themselves."""

from hydrometer.preflight.findings import Finding, Level, Preflight, refuse_red
from hydrometer.preflight.inspect import inspect
from hydrometer.preflight.load import LoadOptions, build_subjects, distinct_teachers
from hydrometer.preflight.subjects import Subjects, default_probe_tokens

__all__ = [
    "Finding",
    "Level",
    "LoadOptions",
    "Preflight",
    "Subjects",
    "build_subjects",
    "default_probe_tokens",
    "distinct_teachers",
    "inspect",
    "refuse_red",
]
