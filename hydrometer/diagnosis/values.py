"""The entry `values` of `summary.json`: what each teacher that continues is worth, and how much of it was measured.

For the student with a context the difference of its value with the context and without is the privilege gap: what it
could do if it were told, and never will be.
"""

from typing import Any

from hydrometer.alignment.identity import Worlds, check_identity, explain_fault
from hydrometer.diagnosis.setup import Instruments
from hydrometer.types import STUDENT


def describe_values(instruments: Instruments, worlds: Worlds) -> list[dict[str, Any]]:
    """One entry per teacher that continues; `privilege_gap` is that of the student with a context, else null."""
    names = [name for name in instruments.continuations if name != STUDENT]
    teachers = {teacher.name: teacher for teacher in instruments.teachers}
    found = []
    for entry in check_identity(worlds, names):
        teacher = teachers[entry["teacher"]]
        is_told = teacher.context.name != "none" and teacher.model.fingerprint == instruments.student.fingerprint
        gap = entry["difference"] if is_told else None
        found.append(entry | {"context": str(teacher.context), "privilege_gap": gap})
    return found


def explain_faults(values: list[dict[str, Any]]) -> list[str]:
    """A warning for each teacher whose continuations cannot be those of the model that was scored."""
    return [explain_fault(entry) for entry in values if entry["holds"] is False]
