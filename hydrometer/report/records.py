"""Records of summary.json whose fields may grow (tests, warnings, cost) as rows that print without knowing them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydrometer.report.arms import arm_key, arm_label
from hydrometer.report.words import reason_in_words
from hydrometer.types import STUDENT

Json = dict[str, Any]
MAX_WARNINGS = 100
SIGNIFICANCE = 0.05
_SILENT = {"continuation": STUDENT}
"""Columns that say nothing when all their values are these."""


def build_tests(tests: Any) -> list[Json]:
    """Tests by family: name, columns, rows, how many stay below 0.05 after Holm's correction (null if not given)."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for test in tests if isinstance(tests, list) else []:
        record = test if isinstance(test, Mapping) else {"value": test}
        families.setdefault(str(record.get("family") or "tests"), []).append(record)
    return [_family(name, records) for name, records in families.items()]


def _family(name: str, records: Sequence[Mapping[str, Any]]) -> Json:
    columns = [column for column in dict.fromkeys(c for record in records for c in record) if column != "family"]
    columns = [
        column for column in columns if any(record.get(column) not in (None, _SILENT.get(column)) for record in records)
    ]
    adjusted = [record["p_holm"] for record in records if isinstance(record.get("p_holm"), int | float)]
    return {
        "name": name.replace("_", " "),
        "columns": columns,
        "rows": [[_cell(column, record.get(column)) for column in columns] for record in records],
        "below": sum(p < SIGNIFICANCE for p in adjusted) if adjusted else None,
    }


def _cell(column: str, value: Any) -> Any:
    return reason_in_words(value) if column == "reason" and isinstance(value, str) else scalar(value)


def build_warnings(summary: Mapping[str, Any]) -> list[str]:
    """Each warning as a sentence, whatever form it was stored in."""
    found = summary.get("warnings") or []
    texts = [_warning_text(warning) for warning in found] if isinstance(found, list) else [str(found)]
    rest = len(texts) - MAX_WARNINGS
    return texts if rest <= 0 else [*texts[:MAX_WARNINGS], f"… and {rest} more in summary.json."]


def _warning_text(warning: Any) -> str:
    if isinstance(warning, Mapping):
        for key in ("sentence", "message", "text"):
            if warning.get(key):
                return str(warning[key])
    return str(scalar(warning))


def scalar(value: Any) -> Any:
    """A JSON value as something that prints on one line; scalars stay what they are."""
    if isinstance(value, list):
        return ", ".join(str(scalar(entry)) for entry in value)
    if isinstance(value, Mapping):
        if "teacher" in value:
            return arm_label(arm_key(value))
        return ", ".join(f"{key} {scalar(inner)}" for key, inner in value.items())
    return value
