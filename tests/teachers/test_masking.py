"""Parts of a solution are hidden, the same ones each time, and never the question's own numbers before an '='."""

import re

import pytest

from hydrometer.tasks.chain import ChainTask
from hydrometer.teachers.masking import HIDDEN, mask_solution
from hydrometer.types import Message, Question


def masked(solution: str, answer: str = "5", *, question_id: str = "q") -> str:
    found = mask_solution(Question(question_id, "t", (Message("user", "?"),), answer, solution))
    assert found is not None
    return found


def test_a_chain_keeps_its_steps_and_hides_about_half_of_its_values():
    shown = hidden = 0
    for question in ChainTask().questions("diagnose")[:200]:
        assert question.solution is not None
        *steps, last = question.solution.splitlines()
        text = mask_solution(question)
        assert text is not None
        *masked_steps, masked_last = text.splitlines()
        assert masked_last == f"answer {HIDDEN}"
        assert last == f"answer {question.answer}"
        for before, after in zip(steps, masked_steps, strict=True):
            step = before.partition("=")[0]
            assert after in (before, f"{step}={HIDDEN}")
            shown += after == before
            hidden += after != before
        assert mask_solution(question) == text, "always the same"
    assert 0.45 < hidden / (shown + hidden) < 0.55


def test_other_questions_hide_other_parts():
    solution = "\n".join(f"step {i} = {i}" for i in range(12))
    assert len({masked(solution, question_id=str(i)) for i in range(20)}) > 15


def test_a_text_without_results_has_half_of_its_words_hidden():
    solution = " ".join(f"word{i}" for i in range(400)) + "\nso 5"
    *_, last = masked(solution).splitlines()
    words = masked(solution).splitlines()[0].split()
    assert last == f"so {HIDDEN}"
    assert len(words) == 400
    assert 150 < words.count(HIDDEN) < 250
    assert all(word in (HIDDEN, f"word{i}") for i, word in enumerate(words))


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("#### 5", f"#### {HIDDEN}"),
        ("The answer is $\\boxed{5}$.", f"The answer is $\\boxed{{{HIDDEN}}}$."),
        ("5 apples, not 15 or 50", f"{HIDDEN} apples, not 15 or 50"),
    ],
)
def test_the_answer_of_the_last_line_is_always_hidden_and_alone(last: str, expected: str):
    for question_id in map(str, range(10)):
        assert masked(f"a = 1\n{last}", question_id=question_id).splitlines()[1] == expected


def test_something_is_hidden_however_short_the_solution():
    for question_id in map(str, range(40)):
        assert HIDDEN in masked("x = 7", "9", question_id=question_id)
        assert masked("5", question_id=question_id) == HIDDEN
        assert re.fullmatch(rf"(so|{HIDDEN}) (it|{HIDDEN}) {HIDDEN}", masked("so it 5", question_id=question_id))


def test_no_solution_is_not_masked():
    assert mask_solution(Question("q", "t", (), "5")) is None
    assert mask_solution(Question("q", "t", (), "5", solution=" \n")) is None
