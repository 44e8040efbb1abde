import pytest

from hydrometer.tasks.verifiers.integer import verify_integer
from hydrometer.types import Grades, Message, Question


def grade(answer: str, response: str) -> Grades:
    return verify_integer(Question("q", "t", (Message("user", "?"),), answer), response)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("Answer: 72", "72"),
        ("It is 5.\nanswer: 72.", "72"),
        ("**Answer:** 72", "72"),
        ("**Final Answer: 72**", "72"),
        ("Answer: 5\nAnswer: 72", "72"),
        ("Answer: 72\nThat is 6 * 12.", "72"),
        ("#### 72", "72"),
        ("so 6*12\n#### 72\n", "72"),
        ("\\boxed{72}", "72"),
        ("Answer: $\\boxed{72}$.", "72"),
        ("\\boxed{Answer: 72} is it", "72"),
        ("Answer: $72", "72"),
        ("Answer: 72%", "72"),
        ("Answer: 72.00", "72"),
        ("Answer: 0072", "72"),
        ("Answer: +72", "72"),
        ("Answer: −72", "-72"),
        ("Answer: -0", "0"),
        ("Answer: 1,234,567", "1234567"),
        ("\\boxed{1{,}234}", "1234"),
        ("Answer: 72.5", "72.5"),
        ("\\boxed{\\text{72}}", "72"),
        ("Answer： 72", "72"),
        ("Answer: " + "9" * 1500, "9" * 1500),
    ],
)
def test_strict_reads_a_marked_number(response: str, said: str):
    for answer in ("72", "-72", "0", "1234567", "1234", "9" * 1500, "25"):
        correct = answer == said
        assert grade(answer, response) == Grades.same(grade(answer, response).strict)
        assert grade(answer, response).strict == (float(correct), correct, True)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("It makes 72", "72"),
        ("The answer is 72.", "72"),
        ("The answer is 72, as 6 * 12 says.", "72"),
        ("Answer: 72 dollars", "72"),
        ("Answer: 6 * 12 = 72", "72"),
        ("Answer: x = 72 apples (and 3 pears)", "72"),
        ("Answer:\n\n72", "72"),
        ("Answer: 12, 72", "12"),
        ("So 6 * 12 = 72 apples", "72"),
        ("We pay $1,234.", "1234"),
        ("first 72\n\\boxed{7", "7"),
        ("10-3=7", "7"),
        ("It falls to -72", "-72"),
        ("version 1.2.3 has 72", "72"),
        ("Answer: 1/2", None),
        ("It is 10^3", None),
        ("It is 72kg", None),
        ("no digits", None),
        ("", None),
        ("72" + " word" * 200, None),
        ("٧٢", None),
        ("Answer: " + "9" * 5000, None),
    ],
)
def test_relaxed_reads_a_number_elsewhere(response: str, said: str | None):
    for answer in ("72", "-72", "12", "1234", "7", "1", "10"):
        grades = grade(answer, response)
        assert grades.strict == (0.0, False, False)
        assert grades.relaxed == (float(answer == said), answer == said, said is not None)


def test_answers_are_compared_as_numbers():
    assert grade("1,000", "Answer: 1000").strict.correct
    assert grade("007", "Answer: 7").strict.correct
    assert not grade("5", "Answer: -5").relaxed.correct
    assert not grade("72", "Answer: 172").relaxed.correct
