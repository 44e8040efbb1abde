"""Tiny checkpoints and a task file in an empty folder, and the command line run inside the test process."""

from command_line import checkpoints, run, workplace

__all__ = ["checkpoints", "run", "workplace"]
