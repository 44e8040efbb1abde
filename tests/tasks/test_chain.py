import random

import pytest

from hydrometer.tasks.chain import (
    STEP_COUNTS,
    Chain,
    ChainTask,
    Split,
    Step,
    parse_answer,
    sample_chain,
    sample_error,
)
from hydrometer.tasks.chain_text import REFERENCE_REMARK, Pattern, Writing, text_of, write_response
from hydrometer.types import Grades, Question, Score

SPLITS: tuple[Split, ...] = ("train", "diagnose", "test")
CHAIN = Chain(47, (Step("+", 8), Step("-", 3), Step("*", 2)))


def ask(chain: Chain) -> Question:
    return Question("q", "bundled:chain", (), answer=f"{chain.answer:02d}")


def test_steps_are_worked_from_left_to_right_modulo_100() -> None:
    assert CHAIN.values == (55, 52, 4)
    assert Chain(3, (Step("-", 9), Step("*", 9))).values == (94, 46)
    assert str(CHAIN) == "47+8-3*2"
    assert CHAIN.solution == "+8=55\n-3=52\n*2=04\nanswer 04"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_every_question_is_solved_by_its_solution_and_not_by_its_wrong_answer(strict: bool, split: Split) -> None:
    task = ChainTask(strict=strict)
    for question in task.questions(split):
        assert question.solution is not None
        assert question.wrong_answer is not None
        assert task.verify(question, question.solution) == Grades.same(Score(1.0, True, True))
        assert task.verify(question, f"answer {question.wrong_answer}") == Grades.same(Score(0.0, False, True))
        assert question.task == task.name


def test_answers_agree_with_python_arithmetic() -> None:
    for question in ChainTask().questions("diagnose"):
        text = question.prompt[0].content.split()[2]
        value = int(text[:2])
        for operator, operand in zip(text[2::2], text[3::2], strict=True):
            value = eval(f"{value} {operator} {operand}") % 100
        assert int(question.answer) == value


def test_splits_are_disjoint_and_questions_are_distinct() -> None:
    prompts = [question.prompt for split in SPLITS for question in ChainTask().questions(split)]
    assert len(set(prompts)) == len(prompts)
    ids = [question.question_id for split in SPLITS for question in ChainTask().questions(split)]
    assert len(set(ids)) == len(ids)


def test_every_leading_slice_has_mixed_lengths_in_a_fixed_order() -> None:
    for split in SPLITS:
        lengths = [question.solution.count("=") for question in ChainTask().questions(split) if question.solution]
        assert lengths == [STEP_COUNTS[index % 4] for index in range(len(lengths))]
    assert [q.answer for q in ChainTask().questions("test")] == [q.answer for q in ChainTask(True).questions("test")]


def test_strict_asks_the_same_chains_in_other_words() -> None:
    plain, strict = ChainTask().questions("diagnose"), ChainTask(strict=True).questions("diagnose")
    assert [q.solution for q in plain] == [q.solution for q in strict]
    assert all(p.prompt != s.prompt for p, s in zip(plain, strict, strict=True))


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("answer 04", 4),
        ("+8=55\nanswer 04", 4),
        ("+8=55\nanswer 4", 4),
        ("+8=55\nanswer 04.", 4),
        ("+8=55\n answer 04 \n\n", 4),
        ("answer 11\nanswer 04", 4),
        ("47+8 is 55 (digit 15, so 55)\nanswer 04", 4),
    ],
)
def test_every_form_of_the_answer_line_is_read(response: str, expected: int) -> None:
    assert parse_answer(response) == expected
    assert ChainTask().verify(ask(CHAIN), response) == Grades.same(Score(1.0, True, True))


@pytest.mark.parametrize(
    "response",
    [
        "",
        "\n\n",
        "04",
        "answer",
        "answer 104",
        "answer -4",
        "answer 0 4",
        "answer ٠٤",
        "answer ④",
        "answer 04 or 05",
        "the answer 04",
        "Answer 04",
        "answer 04\n+8=55",
        "answer 04\nanswer 4x",
        "answer\n04",
        "answer 04\x00",
        "answer 04" * 100_000,
        "answer " + "0" * 1_000_000 + "4",
        "\ud800",
        "answer {chain}",
    ],
)
def test_anything_else_is_not_parsed_and_counts_as_wrong(response: str) -> None:
    assert ChainTask().verify(ask(CHAIN), response).strict == (0.0, False, False)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("Answer 04", 4),
        ("the answer 04", 4),
        ("answer 04\n+8=55", 4),
        ("answer: 4", 4),
        ("The ANSWER is 04!", 4),
        ("answer 11, no: answer 04.", 4),
        ("answer 04\nanswer 4x", 4),
        ("answer 05\nanswer", 5),
        ("04", None),
        ("answer 104", None),
        ("answer -4", None),
        ("answer ٠٤", None),
        ("answer " + "0" * 1_000_000 + "4", None),
    ],
)
def test_relaxed_also_reads_an_answer_elsewhere(response: str, expected: int | None) -> None:
    grades = ChainTask().verify(ask(CHAIN), response)
    assert grades.strict == (0.0, False, False)
    assert grades.relaxed == (float(expected == 4), expected == 4, expected is not None)


def test_errors_are_errors() -> None:
    rng = random.Random(0)
    for value in range(100):
        slips = {sample_error(rng, value) for _ in range(50)}
        assert value not in slips
        assert all(0 <= slip < 100 for slip in slips)
        assert len(slips) > 5


@pytest.mark.parametrize("pattern", ["lines", "prose"])
def test_checked_errors_are_repaired_and_only_they_are_untrained(pattern: Pattern) -> None:
    rng = random.Random(1)
    seen = 0
    for _ in range(300):
        chain = sample_chain(rng, 4, split="train")
        segments = write_response(chain, rng, Writing(pattern, check_share=1.0, error_share=0.3))
        wrong = [segment for segment in segments if not segment.trained]
        seen += len(wrong)
        assert ChainTask().verify(ask(chain), text_of(segments)).strict.correct
        assert all(segment.text.isdigit() and len(segment.text) == 2 for segment in wrong)
    assert 250 < seen < 470


def test_a_check_works_the_last_digit_first() -> None:
    chain = Chain(42, (Step("-", 8), Step("*", 4), Step("+", 9)))
    lines = text_of(write_response(chain, random.Random(0), Writing(check_share=1.0))).splitlines()
    assert lines == ["-8=34?94:34", "*4=36?16:36", "+9=45?15:45", "answer 45"]


def test_unchecked_errors_are_carried_on_without_guidance_and_overruled_with_it() -> None:
    rng = random.Random(2)
    outcomes = {"none": 0, "answer": 0, "steps": 0}
    for guidance in ("none", "answer", "steps"):
        for _ in range(200):
            chain = sample_chain(rng, 3, split="train")
            text = text_of(
                write_response(chain, rng, Writing(check_share=0.0, error_share=0.5, guidance=guidance)),
            )
            outcomes[guidance] += ChainTask().verify(ask(chain), text).strict.correct
    assert outcomes["none"] < 80
    assert outcomes["answer"] == outcomes["steps"] == 200


def test_written_without_checks_and_errors_a_response_is_the_solution() -> None:
    rng = random.Random(3)
    assert text_of(write_response(CHAIN, rng, Writing(check_share=0.0))) == CHAIN.solution
    with_remark = text_of(write_response(CHAIN, rng, Writing(check_share=1.0, remark=True)))
    assert with_remark == f"{REFERENCE_REMARK}+8=55?15:55\n-3=52?02:52\n*2=04?04:04\nanswer 04"
    prose = text_of(write_response(CHAIN, rng, Writing("prose", check_share=0.0)))
    assert prose == "47+8 is 55; 55-3 is 52; 52*2 is 04\nanswer 04"


def test_chains_of_a_split_hash_into_it() -> None:
    rng = random.Random(4)
    for split in SPLITS:
        assert all(sample_chain(rng, 2, split=split).split == split for _ in range(20))
