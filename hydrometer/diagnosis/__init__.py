"""The diagnose corridor: config -> instruments -> rounds -> tables -> summary -> report."""

from hydrometer.diagnosis.config import DiagnoseConfig

__all__ = ["DiagnoseConfig"]
