import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks import load_task
from hydrometer.tasks.reasoning_gym import SIZES, find_entry
from hydrometer.tasks.rows import SPLITS
from hydrometer.tasks.verifiers.reasoning import verify_reasoning_gym
from hydrometer.types import Message, Question

WITHOUT_PACKAGE = "need the package reasoning-gym .*\nInstall it: pip install hydrometer"


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(SpecError, match=WITHOUT_PACKAGE):
        load_task("reasoning_gym:chain_sum")


def test_the_name_of_a_task_is_needed():
    pytest.importorskip("reasoning_gym")
    with pytest.raises(SpecError, match=r"needs the name of a task, e.g. reasoning_gym:chain_sum"):
        load_task("reasoning_gym")
    with pytest.raises(UnknownNameError, match=r"Unknown reasoning-gym task 'chain_sums'. Did you mean chain_sum"):
        load_task("reasoning_gym:chain_sums")


def test_splits_are_made_apart_and_again_the_same():
    pytest.importorskip("reasoning_gym")
    task = load_task("reasoning_gym:chain_sum")
    found = {split: task.questions(split) for split in SPLITS}
    assert {split: len(questions) for split, questions in found.items()} == SIZES
    prompts = [question.prompt for questions in found.values() for question in questions]
    assert len(set(prompts)) == len(prompts)
    assert load_task("reasoning_gym:chain_sum").questions("test") == found["test"], "whatever was asked for before"
    assert found["test"][0].prompt[0].content.endswith("followed by nothing but the answer.")


def test_a_task_with_few_questions_has_fewer():
    pytest.importorskip("reasoning_gym")
    task = load_task("reasoning_gym:coin_flip")
    found = [question.prompt for split in SPLITS for question in task.questions(split)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", ["chain_sum", "leg_counting"])
def test_the_scorer_of_the_package_decides(name: str):
    pytest.importorskip("reasoning_gym")
    task = load_task(f"reasoning_gym:{name}")
    for question in task.questions("diagnose")[:20]:
        for form in ("Answer: {}", "It is so.\n**Answer:** {}", "<answer>{}</answer>", "answer:\n{}\n"):
            assert verify_reasoning_gym(question, form.format(question.answer)).strict == (1.0, True, True)
        bare = verify_reasoning_gym(question, f"It is so.\n{question.answer}")
        assert (bare.strict.parsed, bare.relaxed.correct) == (False, True)
        wrong = verify_reasoning_gym(question, f"Answer: {question.wrong_answer}")
        assert (wrong.strict.correct, wrong.strict.parsed, wrong.relaxed.correct) == (False, True, False)
        assert verify_reasoning_gym(question, "") == verify_reasoning_gym(question, "  \n")
        assert not verify_reasoning_gym(question, "").relaxed.parsed


def test_the_verifier_process_finds_the_question_again():
    pytest.importorskip("reasoning_gym")
    task = load_task("reasoning_gym:basic_arithmetic")
    questions = task.questions("diagnose")[:5]
    graded = task.verify_all([(q, f"Answer: {q.answer}") for q in questions])  # type: ignore[attr-defined]
    assert [g.strict for g in graded] == [(1.0, True, True)] * 5
    assert find_entry(questions[3])[1]["answer"] == questions[3].answer
    task.verifier.close()  # type: ignore[attr-defined]


def test_every_process_asks_the_same_and_the_verifier_knows_it():
    """`isomorphic_strings` draws from sets, whose order differs between the processes of two runs."""
    pytest.importorskip("reasoning_gym")
    load = "from hydrometer.tasks import load_task; made = load_task('reasoning_gym:isomorphic_strings')"
    code = f"{load}; import json; print(json.dumps([q.problem for q in made.questions('diagnose')]))"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "1"}, check=True, stdout=subprocess.PIPE
    )
    task = load_task("reasoning_gym:isomorphic_strings")
    questions = task.questions("diagnose")
    assert json.loads(elsewhere.stdout) == [question.problem for question in questions]
    graded = task.verify_all([(q, f"Answer: {q.answer}") for q in questions[:40]])  # type: ignore[attr-defined]
    assert [(g.failure, g.strict.correct) for g in graded] == [(None, True)] * 40
    task.verifier.close()  # type: ignore[attr-defined]


def test_another_question_than_was_asked_is_never_graded():
    pytest.importorskip("reasoning_gym")
    question = load_task("reasoning_gym:chain_sum").questions("diagnose")[0]
    verify_reasoning_gym(question, "Answer: 1")
    with pytest.raises(SpecError, match=r"makes another question of 'chain_sum' at index 0 than"):
        verify_reasoning_gym(replace(question, problem="1 + 1 ="), "Answer: 1")


def test_a_task_that_cannot_be_made_says_why():
    pytest.importorskip("reasoning_gym")
    with pytest.raises(SpecError, match="made no questions of 'composite': AssertionError: Must specify at least one"):
        load_task("reasoning_gym:composite").questions("diagnose")


def test_questions_of_other_tasks_are_refused():
    with pytest.raises(SpecError, match=r"scores tasks reasoning_gym:NAME only, not 'jsonl'"):
        verify_reasoning_gym(Question("row-1", "jsonl", (Message("user", "?"),), "a"), "Answer: a")
