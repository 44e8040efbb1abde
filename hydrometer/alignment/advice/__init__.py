"""Advice for training: which tokens of which question to train on, and which teacher to take for a question."""

from hydrometer.alignment.advice.export import TrlExport, trl_rows, write_advice, write_trl_rows
from hydrometer.alignment.advice.judge import advise

__all__ = ["TrlExport", "advise", "trl_rows", "write_advice", "write_trl_rows"]
