r"""Verifiers: functions (question, response) -> Grades, by name.

Each is looked up by `module:function`, ours and a user's alike, and only where it is used: in the verifier process.

    >>> load_verifier("integer")(question, "It is 40 + 2.\nAnswer: 42").strict.correct
"""

from hydrometer.tasks.verifiers.loading import VERIFIERS, Verifier, check_verifier_name, load_verifier

__all__ = ["VERIFIERS", "Verifier", "check_verifier_name", "load_verifier"]
