"""Looks behind the scores: what predicts alignment, what a filter would keep, how noisy sampled directions are."""

from hydrometer.alignment.analyses.collect import RunTables, analyse, two_candidate_share
from hydrometer.alignment.analyses.in_context import accuracy_by_difficulty
from hydrometer.alignment.analyses.sequence_tilt import has_tilt, sequence_tilt

__all__ = ["RunTables", "accuracy_by_difficulty", "analyse", "has_tilt", "sequence_tilt", "two_candidate_share"]
