"""`--prompt-template`: the words around a question, for tasks that know the bare problem and for rows that do not."""

import json
from pathlib import Path

import pytest

from hydrometer.errors import SpecError
from hydrometer.evaluation.config import EvaluateConfig
from hydrometer.evaluation.setup import build_examination
from hydrometer.runs.options import PromptingOptions
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.tasks import load_task
from hydrometer.tasks.chain import SECOND_PROMPT
from hydrometer.types import Message, Question


def read(template: str | None, **options: str) -> PromptOptions:
    return read_prompt_options(PromptingOptions(prompt_template=template, **options))


def test_the_problem_takes_the_place_of_the_question_and_the_system_prompt_stands_before_it(tmp_path: Path) -> None:
    question = load_task("bundled:chain").questions("test")[0]
    assert question.problem is not None
    assert question.prompt[0].content == f"Work out {question.problem} from left to right, two digits a step."
    worded = SECOND_PROMPT.format(chain=question.problem)
    text = SECOND_PROMPT.format(chain="$question")
    (tmp_path / "words.txt").write_text(f"\n{text}\n")
    for given in (text, f"@{tmp_path}/words.txt"):
        shown = read(given, system_prompt="Be brief.").show(question)
        assert shown.prompt == (Message("system", "Be brief."), Message("user", worded))
        assert (shown.answer, shown.problem) == (question.answer, question.problem)
    for given in (None, ""):
        assert read(given).show(question) == question


def test_a_row_that_is_a_whole_prompt_goes_in_with_its_last_message() -> None:
    turns = (Message("system", "s"), Message("user", "1?"), Message("assistant", "1"), Message("user", "$2 and {2}?"))
    shown = read("Q: $question ($$)").show(Question("q", "t", turns, "2"))
    assert shown.prompt == (*turns[:3], Message("user", "Q: $2 and {2}? ($)"))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("Solve it.", r"'Solve it.' has no \$question in it"),
        ("Solve $problem.", r"--prompt-template 'Solve \$problem.': unknown \$problem.*\$question"),
        ("$question for $5", r"Write \$\$ for a dollar sign"),
        ("@/no/such/file", r"--prompt-template '@/no/such/file': the file cannot be read"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(template: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        read(template)


def test_every_kind_of_row_says_what_its_problem_is(tmp_path: Path) -> None:
    def problem(task: str, row: dict[str, object], name: str = "rows.jsonl") -> str | None:
        file = tmp_path / name
        file.write_text(json.dumps({"id": "r", "split": "train"} | row) + "\n")
        loaded = load_task(f"{task}:{file}")
        [found] = [q for split in ("train", "diagnose", "test") for q in _questions(loaded, split)]
        return found.problem

    assert problem("gsm8k", {"question": " 6 * 7? ", "answer": "42"}) == "6 * 7?"
    choices = {"question": "Which?", "choices": ["8", "Paris"], "answer": 1}
    assert problem("mmlu", choices) == "Which?\n\nA. 8\nB. Paris"
    passage = {"question": "is it so", "passage": "It is.", "answer": True}
    assert problem("boolq", passage) == "Passage: It is.\n\nQuestion: is it so?"
    assert problem("jsonl", {"problem": "Find x.", "answer": "2"}) == "Find x."
    assert problem("jsonl", {"prompt": "Find x, and be quick.", "question": "Find x.", "answer": "2"}) is None


def _questions(task, split):
    try:
        return task.questions(split)
    except SpecError:
        return ()


def test_models_are_asked_in_these_words_and_run_json_will_say_so() -> None:
    config = EvaluateConfig(questions=2, prompt_template="$question")
    examination = build_examination(config)
    asked = [question.prompt for question in examination.questions]
    problems = [question.problem for question in load_task("bundled:chain").questions("test")[:2]]
    assert asked == [(Message("user", str(problem)),) for problem in problems]
    assert examination.prompts.describe()["prompt_template"] == "$question"
