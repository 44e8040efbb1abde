"""What teachers that continue are worth, as the page shows it."""

from typing import Any

from hydrometer.report.values import COLUMNS, build_values


def estimate(value: float | None, interval: list[float] | None = None) -> dict[str, Any]:
    return {"value": value, "interval": interval}


def entry(**changed: Any) -> dict[str, Any]:
    return {
        "teacher": "self+answer",
        "teacher_value": estimate(0.75),
        "student_value": estimate(0.5),
        "difference": estimate(0.25, [0.1, 0.4]),
        "privilege_gap": estimate(0.25, [0.1, 0.4]),
        "learnable": estimate(-0.1, [-0.2, 0.0]),
        "measured": estimate(-0.05, [-0.1, 0.0]),
        "bounds": [-0.2, 0.6],
        "measured_share": estimate(0.8),
        "holds": True,
    } | changed


def test_a_row_says_what_a_teacher_is_worth_and_whether_it_adds_up() -> None:
    table = build_values({"values": [entry()]})
    assert table is not None
    [row] = table["rows"]
    assert len(row) == len(COLUMNS) == len(table["columns"])
    assert row == [
        "self+answer", "75 %", "50 %", "+0.25 [+0.10, +0.40]", "+0.25 [+0.10, +0.40]", "−0.10 [−0.20, 0.00]",
        "−0.05 [−0.10, 0.00]", "[−0.20, +0.60]", "80 %", "yes",
    ]  # fmt: skip


def test_what_is_not_known_is_a_dash_or_said() -> None:
    changed = entry(privilege_gap=None, learnable=None, bounds=None, measured_share=estimate(None), holds=None)
    table = build_values({"values": [changed, entry(holds=False)]})
    assert table is not None
    assert table["rows"][0][4:] == ["–", "–", "−0.05 [−0.10, 0.00]", "–", "–", "not known"]
    assert table["rows"][1][-1] == "no"


def test_runs_where_no_teacher_continues_have_no_such_table() -> None:
    assert build_values({}) is None
    assert build_values({"values": []}) is None
