import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hydrometer.errors import SpecError
from hydrometer.tasks import load_task
from hydrometer.tasks.datasets import DATA_SETS, load_data_set, nearby
from hydrometer.tasks.rows import SPLITS

GSM = {"question": " 6 * 7? ", "answer": "42", "solution": "6 * 7 = 42"}
MMLU = {"question": "Which?", "choices": ["8", "two\nlines", "Paris"], "answer": 1}
AIME = {"question": "Find $n$.", "answer": "999"}
MATH = {"question": "Half of {1}?", "answer": "\\frac{1}{2}"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({"id": f"r{n}"} | row) + "\n" for n, row in enumerate(rows)), encoding="utf-8")
    return path


def load_rows(tmp_path: Path, name: str, *rows: dict[str, Any]) -> list[Any]:
    found = load_data_set(name, str(write_rows(tmp_path / "rows.jsonl", list(rows))))
    return [question for split in SPLITS for question in found.by_split.get(split, ())]


def test_prompts_name_the_form_of_the_answer(tmp_path: Path):
    [gsm] = load_rows(tmp_path, "gsm8k", GSM)
    assert gsm.prompt[0].content == (
        "6 * 7?\n\nThink step by step, then finish with a line 'Answer: N', where N is the number alone."
    )
    assert (gsm.answer, gsm.solution) == ("42", "6 * 7 = 42")
    [mmlu] = load_rows(tmp_path, "mmlu", MMLU)
    assert "Which?\n\nA. 8\nB. two lines\nC. Paris\n\nThink" in mmlu.prompt[0].content
    assert mmlu.answer == "B"
    assert mmlu.wrong_answer in ("A", "C")
    [math] = load_rows(tmp_path, "math500", MATH)
    assert math.prompt[0].content.startswith("Half of {1}?\n\n")
    assert math.prompt[0].content.endswith("within \\boxed{}.")
    assert math.wrong_answer is None
    [aime] = load_rows(tmp_path, "aime2025", AIME)
    assert 0 <= int(aime.wrong_answer) < 999


def test_wrong_answers_are_near_and_never_right():
    for value in (0, 1, 2, -1, -5, 42, 999):
        found = {int(nearby(value, f"key {n}", 999)) for n in range(200)}
        assert value not in found
        assert len(found) >= 3
        assert all((wrong < 0) == (value < 0) and wrong <= 999 and abs(wrong - value) <= 10 for wrong in found)
    assert nearby(42, "a") == nearby(42, "a")


def test_published_training_rows_are_for_training_and_the_rest_is_halved(tmp_path: Path):
    rows = [GSM | {"question": f"{n}?", "split": "train" if n < 100 else "test"} for n in range(2100)]
    found = load_data_set("gsm8k", str(write_rows(tmp_path / "rows.jsonl", rows)))
    ids = {split: {question.question_id for question in found.questions(split)} for split in SPLITS}
    assert ids["train"] == {f"r{n}" for n in range(100)}
    assert sum(map(len, ids.values())) == 2100
    assert abs(len(ids["diagnose"]) - 1000) < 100
    part = load_data_set("gsm8k", str(write_rows(tmp_path / "part.jsonl", rows[:900])))
    assert {q.question_id for q in part.questions("test")} == ids["test"] & {f"r{n}" for n in range(900)}
    order = [int(q.question_id[1:]) for q in found.questions("test")]
    assert sorted(order) != order, "the first questions are a sample of the file, not its beginning"


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("gsm8k", GSM | {"answer": "4.5"}, "a row of gsm8k needs question and answer (a whole number)"),
        ("gsm8k", GSM | {"answer": None}, "needs question and answer"),
        ("gsm8k", GSM | {"question": " "}, "needs question and answer"),
        ("mmlu", MMLU | {"answer": 3}, "needs question, choices (2 to 10) and answer"),
        ("mmlu", MMLU | {"answer": True}, "needs question, choices"),
        ("mmlu", MMLU | {"answer": "B"}, "needs question, choices"),
        ("mmlu", MMLU | {"choices": ["one"]}, "needs question, choices"),
        ("math500", MATH | {"answer": 5}, "needs question and answer (text)"),
        ("aime2024", AIME | {"answer": ""}, "needs question and answer"),
    ],
)
def test_a_row_that_lacks_something_is_named(tmp_path: Path, name: str, row: dict[str, Any], words: str):
    good = {"gsm8k": GSM, "mmlu": MMLU, "math500": MATH, "aime2024": AIME}[name]
    path = write_rows(tmp_path / "rows.jsonl", [good, row])
    with pytest.raises(SpecError, match=re.escape(f"{path}, line 2: ") + ".*" + re.escape(words)):
        load_data_set(name, str(path))


def test_ids_that_come_twice_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_rows(tmp_path / "rows.jsonl", [GSM, GSM | {"id": "r0"}])
    with pytest.raises(SpecError, match="line 2: the id 'r0' is already that of line 1"):
        load_data_set("gsm8k", str(path))
    write_rows(tmp_path / "aime2024.jsonl", [AIME])
    write_rows(tmp_path / "mmlu_dev.jsonl", [MMLU | {"split": "dev"}])
    write_rows(tmp_path / "mmlu_test_balanced2280.jsonl.gz", []).unlink()
    monkeypatch.setenv("HYDROMETER_DATA", str(tmp_path))
    with pytest.raises(SpecError, match=r"there is no mmlu_test_balanced2280.jsonl.gz in it. Or give mmlu:PATH"):
        load_data_set("mmlu", None)
    with pytest.raises(SpecError, match="aime2024 was made for testing; take questions to train on from another"):
        load_data_set("aime2024", None).questions("train")


def test_a_question_published_twice_is_in_one_split(tmp_path: Path):
    rows = [GSM | {"question": f"{n % 50}?", "split": "train" if n < 60 else "test"} for n in range(120)]
    found = load_data_set("gsm8k", str(write_rows(tmp_path / "rows.jsonl", rows)))
    prompts = [question.prompt for split in SPLITS for question in found.by_split.get(split, ())]
    assert len(prompts) == len(set(prompts)) == 50
    held_out = {q.prompt for split in ("diagnose", "test") for q in found.questions(split)}
    assert len(held_out) == 50, "what is asked in both is never trained on"
    assert "train" not in found.by_split


def test_training_questions_are_missed_only_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_rows(tmp_path / "gsm8k_test.jsonl", [GSM | {"question": f"{n}?"} for n in range(8)])
    monkeypatch.setenv("HYDROMETER_DATA", str(tmp_path))
    task = load_data_set("gsm8k", None)
    assert task.questions("diagnose")
    with pytest.raises(SpecError, match=f"training questions are expected in {tmp_path}/gsm8k_train.jsonl.gz"):
        task.questions("train")


SIZES = {
    "mmlu": {"train": 282, "diagnose": 1144, "test": 1136},
    "gsm8k": {"train": 7473, "diagnose": 658, "test": 661},
    "math500": {"diagnose": 249, "test": 251},
    "aime2024": {"diagnose": 14, "test": 16},
    "aime2025": {"diagnose": 12, "test": 18},
}


@pytest.mark.data
@pytest.mark.parametrize("name", DATA_SETS)
def test_the_real_questions_load_apart_and_grade_their_own_answers(data_folder: Path, name: str):
    task = load_task(name)
    by_split = {split: task.questions(split) for split in SIZES[name]}
    assert {split: len(found) for split, found in by_split.items()} == SIZES[name]
    questions = [question for found in by_split.values() for question in found]
    assert len({question.question_id for question in questions}) == len(questions)
    prompts = Counter(question.prompt for question in questions)
    assert max(prompts.values()) == 1, "no question stands in two splits"
    held_out = [*by_split["diagnose"], *by_split["test"]]
    form = "So \\boxed{%s}." if name == "math500" else "So.\nAnswer: %s"
    grades = task.verify_all([(q, form % q.answer) for q in held_out])  # type: ignore[attr-defined]
    assert all(g.strict.correct and g.relaxed.correct for g in grades)
    others = [q for q in held_out if q.wrong_answer is not None]
    assert len(others) == {"math500": 311}.get(name, len(held_out))
    grades = task.verify_all([(q, form % q.wrong_answer) for q in others])  # type: ignore[attr-defined]
    assert all(g.strict.parsed and not g.relaxed.correct and g.failure is None for g in grades)
    loose = "So I get $%s$." if name == "math500" else "So I say %s."
    grades = task.verify_all([(q, loose % q.answer) for q in by_split["diagnose"]])  # type: ignore[attr-defined]
    assert not any(g.strict.correct for g in grades)
    assert sum(g.relaxed.correct for g in grades) >= 0.93 * len(grades)
    if name == "mmlu":
        first = [q.question_id.rsplit("-", 1)[0] for q in by_split["diagnose"][:20]]
        assert len(set(first)) > 10, "the first twenty are of many subjects"
    task.verifier.close()  # type: ignore[attr-defined]
