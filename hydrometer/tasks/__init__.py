"""Tasks: questions in disjoint splits and the verifiers that grade responses to them."""

from hydrometer.tasks.graded_elsewhere import GradedElsewhere
from hydrometer.tasks.isolated_task import IsolatedTask, verify_all
from hydrometer.tasks.registry import TASKS, grade_by, load_task
from hydrometer.tasks.verifiers import VERIFIERS

__all__ = ["TASKS", "VERIFIERS", "GradedElsewhere", "IsolatedTask", "grade_by", "load_task", "verify_all"]
