"""How well teachers and objectives agree with what would raise success: scores, intervals, choice."""

from hydrometer.alignment.analyses.in_context import accuracy_by_difficulty
from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.comparison import RunComparison, compare_runs
from hydrometer.alignment.nodes import complete_nodes
from hydrometer.alignment.scores import compute_alignment
from hydrometer.alignment.summary import summarise
from hydrometer.alignment.wording import Privilege

__all__ = [
    "ObjectiveInfo",
    "Privilege",
    "RunComparison",
    "accuracy_by_difficulty",
    "compare_runs",
    "complete_nodes",
    "compute_alignment",
    "summarise",
]
