"""What a run names as the next question: its leaders, each where it continues by itself."""

import pytest

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.confirming import suggest_confirmation
from hydrometer.diagnosis.setup import build_instruments

TEACHERS = ("big=bundled:expert", "self+answer", "self+rule:Check every step.", "bundled:early")


@pytest.fixture(scope="module")
def instruments_of():
    def build(**options):
        return build_instruments(DiagnoseConfig(teacher=TEACHERS, questions=2, **options))

    return build


def lines(*names):
    return [{"teacher": name} for name in names]


def test_it_names_the_first_teachers_above_no_teacher_as_they_were_given(instruments_of):
    instruments = instruments_of()
    rule = "self+rule:Check every step."
    said = suggest_confirmation(instruments, lines("big", rule, "big", "no teacher", "self+answer"))
    assert said is not None
    assert said.endswith("--continuation both --teacher big=bundled:expert --teacher 'self+rule:Check every step.'")
    four = suggest_confirmation(instruments, lines("big", rule, "self+answer", "bundled:early", "no teacher"))
    assert four is not None and four.count("--teacher ") == 3 and "early" not in four
    assert suggest_confirmation(instruments, lines("no teacher", "big")) is None


@pytest.mark.parametrize(
    "options",
    [
        {"continuation": "both"},
        {"goal": "choose"},
        {"allocation": "on_policy"},
        {"objective": ("reverse_kl", "minillm")},
    ],
)
def test_nothing_is_named_where_it_was_asked_or_cannot_be(instruments_of, options):
    assert suggest_confirmation(instruments_of(**options), lines("big", "no teacher")) is None
