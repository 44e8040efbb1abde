"""From a verifier's name, or a user's `module:function`, to a function that returns `Grades`."""

import importlib
import math
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from hydrometer.credentials import hide_secrets
from hydrometer.errors import SpecError, UnknownNameError, VerifierError
from hydrometer.types import Grades, Question, Score

Verifier = Callable[[Question, str], Grades]

VERIFIERS = {
    "exact": "hydrometer.tasks.verifiers.exact:verify_exact",
    "boolean": "hydrometer.tasks.verifiers.boolean:verify_boolean",
    "choice": "hydrometer.tasks.verifiers.choice:verify_choice",
    "integer": "hydrometer.tasks.verifiers.integer:verify_integer",
    "math": "hydrometer.tasks.verifiers.latex:verify_math",
    "reasoning_gym": "hydrometer.tasks.verifiers.reasoning:verify_reasoning_gym",
}
"""Name -> where the function stands."""


def check_verifier_name(name: str) -> None:
    """Refuse a name that can be no verifier, before any process is started for it.

    Raises:
        UnknownNameError: neither one of `VERIFIERS` nor `module:function`.
        SpecError: `module:function` with a half missing.
    """
    if name in VERIFIERS:
        return
    module, colon, function = name.partition(":")
    if not colon:
        raise UnknownNameError("verifier", name, [*VERIFIERS, "module:function"])
    parts = module.split(".")
    if not function.isidentifier() or not all(part.isidentifier() for part in parts):
        raise SpecError(
            f"Verifier '{name}': expected module:function, e.g. grading:check for the function check of grading.py "
            "in the current directory."
        )


def load_verifier(name: str) -> Verifier:
    """The verifier of this name; a user's module is looked for in the current directory first.

    Raises:
        UserError: see `check_verifier_name`.
        VerifierError: the module cannot be imported, or has no such function.
    """
    check_verifier_name(name)
    module, _, function = VERIFIERS.get(name, name).partition(":")
    ours = name in VERIFIERS
    if not ours and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except BaseException as error:  # whatever a user's module does when it is imported
        searched = "" if ours else f"\nIt is looked for in {os.getcwd()} first; the form is module:function."
        raise VerifierError(f"Verifier '{name}' cannot be loaded: {describe_error(error)}{searched}") from error
    if not callable(found):
        raise VerifierError(f"Verifier '{name}' is a {type(found).__name__}, not a function.")
    return cast(Verifier, found) if ours else adapt(found)


def adapt(function: Callable[[Question, str], Any]) -> Verifier:
    """A user's function, whose result may be a bool, a number in [0, 1] (1 is correct), a `Score` or `Grades`."""

    def verify(question: Question, response: str) -> Grades:
        result = function(question, response)
        if isinstance(result, Grades):
            return Grades(check_score(result.strict), check_score(result.relaxed))
        if isinstance(result, Score):
            return Grades.same(check_score(result))
        return Grades.same(check_score(Score(value := _as_value(result), value == 1.0, True)))

    return verify


def _as_value(result: object) -> float:
    if isinstance(result, str | bytes) or not hasattr(result, "__float__"):
        raise TypeError(f"the verifier returned {result!r:.80}, expected a bool, a number in [0, 1] or a Score")
    return float(result)  # type: ignore[arg-type]


def check_score(score: Score) -> Score:
    """The score with plain Python values.

    Raises:
        ValueError: its value is not in [0, 1].
    """
    value = float(score.value)
    if not 0.0 <= value <= 1.0 or math.isnan(value):
        raise ValueError(f"the verifier returned {value!r}, expected a bool, a number in [0, 1] or a Score")
    return Score(value, bool(score.correct), bool(score.parsed))


def describe_error(error: BaseException) -> str:
    """One line: `ZeroDivisionError: division by zero`."""
    text = " ".join(str(error).split())
    return hide_secrets(f"{type(error).__name__}: {text}")[:300] if text else type(error).__name__
