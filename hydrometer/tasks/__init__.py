"""Tasks: questions in disjoint splits and the verifier that scores responses to them."""

from hydrometer.tasks.registry import TASKS, load_task

__all__ = ["TASKS", "load_task"]
