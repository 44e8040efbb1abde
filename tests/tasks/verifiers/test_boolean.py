import pytest

from hydrometer.tasks.verifiers.boolean import verify_boolean
from hydrometer.types import Grades, Message, Question


def grade(answer: str, response: str) -> Grades:
    return verify_boolean(Question("q", "boolq", (Message("user", "?"),), answer), response)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("Answer: yes", "yes"),
        ("**Answer:** no", "no"),
        ("answer:yes", "yes"),
        ("Answer: NO.", "no"),
        ("Answer: 'yes'", "yes"),
        ("Answer: True", "yes"),
        ("Yes, because there is no other. Answer: yes", "yes"),
        ("Answer: yes\nNo wait.\nAnswer: no", "no"),
        ("Answer: yes\nThere is no more to say.", "yes"),
        ("\\boxed{\\text{no}}", "no"),
        ("#### yes", "yes"),
        ("Final answer: **false**!", "no"),
    ],
)
def test_strict_reads_a_marked_word(response: str, said: str):
    for answer in ("yes", "no", "true", "False"):
        correct = said == {"true": "yes", "False": "no"}.get(answer, answer)
        grades = grade(answer, response)
        assert grades == Grades.same(grades.strict)
        assert grades.strict == (float(correct), correct, True)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("answer is NO.", "no"),
        ("The answer is: **Yes**", "yes"),
        ("Answer - True", "yes"),
        ("It is false", "no"),
        ("Answer: yes. On second thought, no other fits", "yes"),
        ("Answer: yes, the passage says so", "yes"),
        ("No. Well, yes", "no"),
        ("I thought no. Well, yes", "yes"),
        ("The correct answer to the question is yes", "yes"),
        ("Answer: nothing is known, yes", "yes"),
        ("Answer:\n\nno", "no"),
        ("yesterday nobody knew the untrue notion", None),
        ("Answer: maybe", None),
        ("", None),
        ("the answer", None),
        ("yes" + " word" * 200, None),
    ],
)
def test_relaxed_reads_a_word_elsewhere(response: str, said: str | None):
    for answer in ("yes", "no"):
        grades = grade(answer, response)
        assert grades.strict == (0.0, False, False)
        assert grades.relaxed == (float(said == answer), said == answer, said is not None)
