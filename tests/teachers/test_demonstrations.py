"""What is a demonstration, and what is only an answer."""

import pytest

from hydrometer.teachers.demonstrations import choose_demonstrations, is_bare_answer
from hydrometer.types import Message, Question, Rollout


def question(answer: str, wrong: str | None = None) -> Question:
    return Question("q", "t", (Message("user", "?"),), answer, wrong_answer=wrong)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("52", "52"),
        ("52", " answer 52\n"),
        ("52", "The final answer is \\boxed{52}."),
        ("52", "#### 52"),
        ("52", "Answer: 17"),
        ("52", "-3.5%"),
        ("52", "So, 52. Therefore the answer is 52."),
        ("1,234", "1,234"),
        ("yes", "No."),
        ("no", "**Answer: no**"),
        ("yes", "True"),
        ("yes", "Yes. The answer is yes."),
        ("B", "(C)"),
        ("b", "Answer: B."),
        ("x + 1", "The answer is x + 1."),
        ("New York", "new york"),
        ("5", ""),
        ("5", " .\n"),
        ("5", "The answer is:"),
    ],
)
def test_an_answer_alone_is_bare(answer: str, text: str):
    assert is_bare_answer(text, question(answer))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("52", "+8=52\nanswer 52"),
        ("52", "17+35 gives 52"),
        ("52", "x = 52"),
        ("52", "fifty-two"),
        ("yes", "Yes, the passage says so."),
        ("yes", "5"),
        ("B", "B) Paris"),
        ("New York", "It is New York because of the harbour."),
        ("New York", "Boston"),
    ],
)
def test_more_than_an_answer_is_not(answer: str, text: str):
    assert not is_bare_answer(text, question(answer))


def test_the_known_wrong_answer_is_bare_whatever_its_kind():
    assert is_bare_answer("Los Angeles", question("New York", "Los Angeles"))
    assert not is_bare_answer("Los Angeles", question("New York"))


def rollout(rollout_id: int, text: str, *, correct: bool, truncated: bool = False) -> Rollout:
    return Rollout("q", rollout_id, "demo", (1,), text, float(correct), correct, truncated)


def test_the_first_usable_of_each_outcome_is_chosen():
    demos = [
        rollout(1, "5", correct=True),
        rollout(2, "2+3 is 5 and then", correct=True, truncated=True),
        rollout(3, "2+3 is 5", correct=True),
        rollout(4, "2+3=5", correct=True),
        rollout(5, "6", correct=False),
        rollout(6, "2*3=6", correct=False),
        rollout(7, "2+3=6", correct=False),
    ]
    found = choose_demonstrations(question("5"), demos, [rollout(9, " 2+3 is 5\n", correct=True)])
    assert (found.correct, found.wrong) == (demos[3], demos[5])
    found = choose_demonstrations(question("5"), demos[:3], [rollout(9, "2+3 is 5", correct=True)])
    assert found == (None, None)
