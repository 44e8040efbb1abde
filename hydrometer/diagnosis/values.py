"""The entry `values` of `summary.json`: what each teacher that continues is worth, and how much of it was measured.

For the student with a context the difference of its value with the context and without is the privilege gap: what it
could do if it were told, and never will be. What it can learn of that teacher is worth what its aggregate is worth,
where that is a teacher of the run too.
"""

from typing import Any

from hydrometer.alignment.identity import Worlds, check_identity, explain_fault
from hydrometer.diagnosis.setup import Instruments
from hydrometer.types import STUDENT


def describe_values(instruments: Instruments, worlds: Worlds) -> list[dict[str, Any]]:
    """One entry per teacher that continues.

    `privilege_gap` is that of the student with a context, else null; `learnable` the difference of its aggregate, null
    where the run has none.
    """
    names = [name for name in instruments.continuations if name != STUDENT]
    teachers = {teacher.name: teacher for teacher in instruments.teachers}
    found = {entry["teacher"]: entry for entry in check_identity(worlds, names)}
    entries = []
    for name, entry in found.items():
        context, model = teachers[name].context, teachers[name].model
        is_told = context.name != "none" and not context.aggregate
        gap = entry["difference"] if is_told and model.fingerprint == instruments.student.fingerprint else None
        mean = found.get(instruments.aggregates.get(name, ""))
        learnable = None if mean is None else mean["difference"]
        entries.append(entry | {"context": str(context), "privilege_gap": gap, "learnable": learnable})
    return entries


def explain_faults(values: list[dict[str, Any]]) -> list[str]:
    """A warning for each teacher whose continuations cannot be those of the model that was scored."""
    return [explain_fault(entry) for entry in values if entry["holds"] is False]


def explain_learnable(values: list[dict[str, Any]]) -> list[str]:
    """A note for each teacher whose context is of one question and whose aggregate continued too."""
    return [
        f"{entry['teacher']} is right {_signed(entry['difference'])} more often than the student because it is told. "
        f"What a student that is not told can learn of it, its aggregate, is {_signed(entry['learnable'])}."
        for entry in values
        if entry["learnable"] is not None and entry["difference"]["value"] is not None
    ]


def _signed(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "not known"
    interval = found["interval"]
    return f"{found['value']:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")
