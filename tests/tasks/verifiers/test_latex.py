import pytest

from hydrometer.tasks.verifiers.latex import verify_math
from hydrometer.types import Grades, Message, Question


def grade(answer: str, response: str) -> Grades:
    return verify_math(Question("q", "math500", (Message("user", "?"),), answer), response)


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        ("\\frac{1}{2}", "\\boxed{0.5}", True),
        ("\\frac{1}{2}", "\\boxed{\\dfrac12}", True),
        ("\\frac{1}{2}", "Answer: 1/2", True),
        ("\\frac{1}{2}", "\\boxed{2}", False),
        ("p - q", "\\boxed{-q+p}", True),
        ("p - q", "\\boxed{q-p}", False),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3,\\pi/2)}", True),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(\\pi/2,3)}", False),
        ("11\\sqrt2", "Answer: $11\\sqrt{2}$", True),
        ("x=5", "\\boxed{5}", True),
        ("1,-2", "\\boxed{-2, 1}", True),
        ("6+9i", "\\boxed{9i+6}", True),
        ("90^\\circ", "\\boxed{90}", True),
        ("1000", "\\boxed{1{,}000}", True),
        ("\\text{Evelyn}", "\\boxed{\\text{evelyn}}", True),
        ("\\text{Evelyn}", "Answer: Evelyn", True),
        ("\\text{Evelyn}", "\\boxed{nylevE}", False),
        ("42", "\\boxed{41}\nNo. \\boxed{42}", True),
        ("42", "\\boxed{42}\nNo. \\boxed{41}", False),
        ("\\{1,2\\}", "so \\boxed{\\{2, 1\\}}", True),
        ("2", "Answer: sqrt(4)", True),
    ],
)
def test_strict_compares_the_marked_value(answer: str, response: str, correct: bool):
    grades = grade(answer, response)
    assert grades == Grades.same(grades.strict)
    assert grades.strict == (float(correct), correct, True)


@pytest.mark.parametrize(
    ("answer", "response", "correct", "parsed"),
    [
        ("\\frac{1}{2}", "So it is $\\frac{2}{4}$.", True, True),
        ("\\frac{1}{2}", "The answer is 1/2", True, True),
        ("42", "Answer: the number 42", True, True),
        ("42", "We get 6 * 7 = 42.", True, True),
        ("42", "We get 43.", False, True),
        ("42", "Answer: 42 dollars", True, True),
        ("42", "\\boxed{42", True, True),
        ("\\sqrt{2}", "Hence $x = \\sqrt{2}$", True, True),
        ("42", "", False, False),
        ("42", "I do not know", False, False),
        ("42", "Answer:", False, False),
        ("42", "\\boxed{}", False, False),
        ("\\text{Evelyn}", "The answer is Evelyn.", True, True),
    ],
)
def test_relaxed_finds_a_value_elsewhere(answer: str, response: str, correct: bool, parsed: bool):
    grades = grade(answer, response)
    assert grades.strict == (0.0, False, False)
    assert grades.relaxed == (float(correct), correct, parsed)
