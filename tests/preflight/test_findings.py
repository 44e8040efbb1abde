import pytest

from hydrometer.errors import PreflightError
from hydrometer.preflight.findings import Finding, Preflight, refuse_red


def red(number: int) -> Finding:
    return Finding("red", f"check {number}", "student", f"fault {number}\nin two lines", "It hurts.", f"Cure {number}.")


def test_one_message_of_at_most_ten_lines_however_much_is_red():
    with pytest.raises(PreflightError) as caught:
        refuse_red([red(i) for i in range(9)], "The end.")
    lines = str(caught.value).splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("The check of the models found 9 faults")
    assert lines[1:3] == ["  check 0 (student): fault 0 in two lines", "    Cure 0."]
    assert lines[-2] == "  and: " + ", ".join(f"check {i} (student)" for i in range(3, 9))
    assert lines[-1] == "The end."


def test_nothing_red_is_no_error():
    refuse_red([Finding("green", "a", "student", "well"), Finding("note", "b", "student", "hm")], "The end.")


def test_the_json_counts_levels_and_keeps_every_field():
    found = Preflight((red(1), Finding("green", "a", "student", "well")), 16, 200)
    value = found.as_json()
    assert value["ok"] is False
    assert value["counts"] == {"green": 1, "note": 0, "red": 1}
    assert value["findings"][0] == {
        "level": "red",
        "check": "check 1",
        "model": "student",
        "found": "fault 1\nin two lines",
        "consequence": "It hurts.",
        "cure": "Cure 1.",
    }
    assert value["cost"] == {"rollouts": 16, "generated_tokens": 200}
