"""Advice for training: which tokens of which question to train on, and which teacher to take for a question."""

from hydrometer.alignment.advice.export import TrlExport, choose_teachers, trl_rows, write_advice, write_trl_rows
from hydrometer.alignment.advice.follow import Advice, read_advice
from hydrometer.alignment.advice.judge import advise
from hydrometer.alignment.advice.rule import FEATURES, Rule, apply_rule

__all__ = [
    "FEATURES",
    "Advice",
    "Rule",
    "TrlExport",
    "advise",
    "apply_rule",
    "choose_teachers",
    "read_advice",
    "trl_rows",
    "write_advice",
    "write_trl_rows",
]
