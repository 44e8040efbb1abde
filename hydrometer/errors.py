"""What a person can get wrong, as exceptions that the command line prints without a traceback.

Everything else that is raised is a bug and keeps its traceback (exit code 1).
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input or failing surroundings. Its text (1-10 lines) says what was found, was expected, and can be done."""


class UnknownNameError(UserError):
    """A name (model, teacher, objective, task, context, option) that nothing answers to."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(choices)}."
        super().__init__(f"Unknown {kind} '{name}'. {hint}")


class SpecError(UserError):
    """A spec or option whose name is known but whose parts do not fit."""


class VerifierError(UserError):
    """A verifier that cannot be loaded, or that fails on every response."""


class TokenMapError(UserError):
    """Student and teacher give one token id to different strings."""


class PreflightError(UserError):
    """A check before the run found something that would make a number wrong."""


class RunFolderError(UserError):
    """A run folder that is locked, foreign, corrupt, or already holds something."""


class DiskError(UserError):
    """A write that the file system refused."""


class TrainingError(UserError):
    """A step of training that cannot be made."""


class MemoryLimitError(UserError):
    """The machine or the device ran out of memory; the text names the option that lowers the need."""
