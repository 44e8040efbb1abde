import pytest

from hydrometer.tasks.verifiers.choice import verify_choice
from hydrometer.types import Grades, Message, Question

PROMPT = "Which?\n\nA. 8\nB. 24 apples\nC. Paris\nD. none of these\n\nFinish with 'Answer: X'."


def grade(answer: str, response: str, prompt: str = PROMPT) -> Grades:
    return verify_choice(Question("q", "mmlu", (Message("user", prompt),), answer), response)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("Answer: (B)", "B"),
        ("Answer: B.", "B"),
        ("Answer: B. 24 apples", "B"),
        ("Answer: B) 24 apples", "B"),
        ("Answer: (B) 24 apples", "B"),
        ("**Answer: B**", "B"),
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("#### B", "B"),
        ("Answer: A\nNo, C is wrong.\nAnswer: B", "B"),
        ("Answer: $B$", "B"),
        ("Answer: D: none of these", "D"),
    ],
)
def test_strict_reads_a_marked_letter(response: str, said: str):
    for answer in "ABCD":
        grades = grade(answer, response)
        assert grades == Grades.same(grades.strict)
        assert grades.strict == (float(said == answer), said == answer, True)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("The answer is B", "B"),
        ("The answer is (b).", "B"),
        ("I would choose option C, not A", "C"),
        ("A good guess is B", "B"),
        ("Answer: A good guess", None),
        ("Answer: Paris", "C"),
        ("Answer: 24 Apples.", "B"),
        ("Answer: 24", None),
        ("Answer:\nB", "B"),
        ("B is right", None),
        ("(C) it is", "C"),
        ("I say B.", "B"),
        ("Answer: E", None),
        ("Answer: F. Rome", None),
        ("ABCD", None),
        ("", None),
        ("it's D'Artagnan", None),
    ],
)
def test_relaxed_reads_a_letter_elsewhere(response: str, said: str | None):
    for answer in "ABCD":
        grades = grade(answer, response)
        assert grades.strict == (0.0, False, False)
        assert grades.relaxed == (float(said == answer), said == answer, said is not None)


def test_without_listed_choices_letters_go_to_j():
    assert grade("J", "Answer: J", "which?").strict.correct
    assert not grade("J", "Answer: K", "which?").relaxed.parsed
