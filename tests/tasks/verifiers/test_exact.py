import pytest

from hydrometer.tasks.verifiers.exact import verify_exact
from hydrometer.types import Grades, Message, Question, Score


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        ("42", "42", True),
        ("42", "Let me see.\n\n42", True),
        ("42", "42\n\n  \n", True),
        ("42", "Answer: 42", True),
        ("42", "The final answer is: 42.", True),
        ("42", "answer = 42", True),
        ("42", "**Answer:** 42", True),
        ("42", "**Answer: 42**", True),
        ("42", "- ANSWER 42", True),
        ("42", "42 is it", False),
        ("42", "142", False),
        ("42", "42\nno, 43", False),
        ("42.0", "42", False),
        ("-5", "-5", True),
        ("-5", "Answer: -5", True),
        ("5", "-5", False),
        ("5", "Answer: -5", False),
        ("New  York", "new york.", True),
        ("Straße", "STRASSE", True),
        ("answerable", "answerable", True),
        ("able", "answerable", False),
        ("island", "The answer island", True),
        ("land", "answer island", False),
        ("answer is 5", "Answer is 5", True),
        ("a\nb", "a\n b", True),
        ("a\nb", "b", False),
        ("5.", "5", True),
        ("x", "Answer:", False),
        ("**", "**", True),
    ],
)
def test_strict_is_the_last_line_or_the_whole(answer: str, response: str, correct: bool):
    question = Question("q", "jsonl", (Message("user", "?"),), answer)
    assert verify_exact(question, response).strict == (float(correct), correct, True)


@pytest.mark.parametrize("response", ["", " \n\t\n"])
def test_an_empty_response_is_unparsed(response: str):
    assert verify_exact(Question("q", "jsonl", (), "a"), response) == Grades.same(Score(0.0, False, False))


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        ("Paris", "So the capital is Paris.", True),
        ("Paris", "I think: Paris", True),
        ("Paris", "capital = `Paris`.", True),
        ("Paris", "It could be **Paris**", False),
        ("Paris", "Answer: Paris\n\nHope this helps!", True),
        ("Paris", "Answer: **Paris**\nNo, Answer: London\nBye", False),
        ("x+1", "So \\boxed{x+1} it is.", True),
        ("72", "6 * 12 = 72\n#### 72\ndone", True),
        ("5", "The answer is -5", False),
        ("5", "We get -5 is not 15", False),
        ("5", "so x = $5", True),
        ("is", "This", False),
    ],
)
def test_relaxed_also_takes_a_marked_answer_or_the_end_of_the_last_line(answer: str, response: str, correct: bool):
    question = Question("q", "jsonl", (Message("user", "?"),), answer)
    grades = verify_exact(question, response)
    assert grades.relaxed == (float(correct), correct, True)
    assert not grades.strict.correct
