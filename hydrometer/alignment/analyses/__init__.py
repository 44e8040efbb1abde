"""Looks behind the scores: what predicts alignment, what a filter would keep, how noisy sampled directions are."""

from hydrometer.alignment.analyses.collect import RunTables, analyse, two_candidate_share
from hydrometer.alignment.analyses.in_context import accuracy_by_difficulty

__all__ = ["RunTables", "accuracy_by_difficulty", "analyse", "two_candidate_share"]
