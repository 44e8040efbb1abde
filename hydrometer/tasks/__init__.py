"""Tasks: questions in disjoint splits and the verifiers that grade responses to them."""

from hydrometer.tasks.graded_elsewhere import GradedElsewhere
from hydrometer.tasks.isolated_task import IsolatedTask, verify_all
from hydrometer.tasks.registry import TASKS, grade_by, load_task
from hydrometer.tasks.thoughts import answer_part, opens_thought
from hydrometer.tasks.verifiers import VERIFIERS

__all__ = [
    "TASKS",
    "VERIFIERS",
    "GradedElsewhere",
    "IsolatedTask",
    "answer_part",
    "grade_by",
    "load_task",
    "opens_thought",
    "verify_all",
]
