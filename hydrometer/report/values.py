"""What teachers that continue are worth, and whether what was measured accounts for it: `values` of `summary.json`."""

from collections.abc import Mapping
from typing import Any

from hydrometer.report.numbers import ABSENT, format_interval, format_percent, format_signed

COLUMNS = (
    *("Teacher", "Right by itself", "Student", "Difference", "Privilege gap", "Learnable"),
    *("Measured", "Bounds", "Share of the difference", "Adds up"),
)
NOTE = (
    "Where a teacher continues, the differences that it makes along the student's responses add up to how much more "
    "often it is right than the student. Measured is what the kept candidates account for; the bounds let everything "
    "else be as bad and as good as it can be. “No” means that visits, prompts or temperatures are not what they are "
    "taken for. A privilege gap is what the student could do if it were told what the context tells; learnable is what "
    "a student that is not told can come to of it, the difference of the teacher’s aggregate."
)
_HOLDS = {True: "yes", False: "no"}


def build_values(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """A table with a row per teacher that continues; None where none does."""
    rows = [_row(entry) for entry in summary.get("values") or []]
    return {"columns": list(COLUMNS), "rows": rows} if rows else None


def _row(entry: Mapping[str, Any]) -> list[str]:
    return [
        str(entry["teacher"]),
        format_percent(entry["teacher_value"]["value"]),
        format_percent(entry["student_value"]["value"]),
        _estimate(entry["difference"]),
        _estimate(entry["privilege_gap"]),
        _estimate(entry.get("learnable")),
        _estimate(entry["measured"]),
        format_interval(entry["bounds"]) or ABSENT,
        format_percent(entry["measured_share"]["value"]),
        _HOLDS.get(entry["holds"], "not known"),
    ]


def _estimate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ABSENT
    return f"{format_signed(found['value'])} {format_interval(found['interval'])}".strip()
