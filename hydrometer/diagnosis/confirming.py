"""What to ask next where the student continued: the leaders once more, each where it continues by itself.

That ranking foretold training better (docs/predictive-validity.md) and costs a set of branches for every teacher, so
that it is asked of those that are left, not of all.
"""

import shlex
from typing import Any

from hydrometer.diagnosis.continuation import refuse_continuation
from hydrometer.diagnosis.setup import Instruments
from hydrometer.errors import SpecError
from hydrometer.types import NO_TEACHER

MOST_LEADERS = 3


def suggest_confirmation(instruments: Instruments, ranking: list[dict[str, Any]]) -> str | None:
    """The sentence with the options to add; None where no teacher leads, or none can continue in such a run."""
    config = instruments.config
    if config.continuation != "student" or instruments.given is not None or config.goal == "choose":
        return None
    try:
        refuse_continuation(config.model_copy(update={"continuation": "both"}), instruments.objectives)
    except SpecError:
        return None
    leaders = _leaders(ranking)
    specs = {teacher.name: spec for teacher, spec in zip(instruments.teachers, config.teacher, strict=True)}
    if not leaders:
        return None
    named = " ".join(f"--teacher {shlex.quote(specs[name])}" for name in leaders)
    return (
        "Before you train, ask those in front once more where each continues by itself, which foretold training "
        f"better: the same command with --continuation both {named}"
    )


def _leaders(ranking: list[dict[str, Any]]) -> list[str]:
    """The first teachers above no teacher."""
    found: list[str] = []
    for line in ranking:
        if line["teacher"] == NO_TEACHER or len(found) == MOST_LEADERS:
            break
        if line["teacher"] not in found:
            found.append(line["teacher"])
    return found
