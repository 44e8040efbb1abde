import gzip
import json
from pathlib import Path

import pytest

from hydrometer.errors import SpecError
from hydrometer.tasks.boolq import load_boolq
from hydrometer.tasks.verifiers.boolean import verify_boolean
from hydrometer.types import Message, Question

ROWS = [
    {"id": f"boolq-{n}", "question": f"is {n} even", "passage": f"{n} is {{even}} or $odd.", "answer": n % 2 == 0}
    for n in range(40)
]


def write_rows(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_become_prompts_with_both_answers(tmp_path: Path):
    task = load_boolq(str(write_rows(tmp_path / "rows.jsonl", ROWS)))
    found = {q.question_id: q for split in ("train", "diagnose", "test") for q in task.questions(split)}
    assert found.keys() == {row["id"] for row in ROWS}
    assert found["boolq-3"] == Question(
        "boolq-3",
        "boolq",
        (
            Message(
                "user",
                "Read the passage and answer the question.\n\nPassage: 3 is {even} or $odd.\n\nQuestion: is 3 even?\n\n"
                "Explain in one short sentence, then finish with 'Answer: yes' or 'Answer: no'.",
            ),
        ),
        "no",
        None,
        "yes",
        problem="Passage: 3 is {even} or $odd.\n\nQuestion: is 3 even?",
    )
    assert found["boolq-4"].answer == "yes"
    assert task.name == "boolq"


def test_a_question_belongs_to_its_split_whatever_stands_around_it(tmp_path: Path):
    whole = load_boolq(str(write_rows(tmp_path / "whole.jsonl", ROWS)))
    part = load_boolq(str(write_rows(tmp_path / "part.jsonl", ROWS[::-2])))
    for split in ("train", "diagnose", "test"):
        ids = {q.question_id for q in whole.questions(split)}
        assert {q.question_id for q in part.questions(split)} == ids & {row["id"] for row in ROWS[::-2]}
    assert [q.question_id for q in whole.questions("test")] == [q.question_id for q in whole.questions("test")]


def test_splits_have_their_shares(tmp_path: Path):
    rows = [ROWS[0] | {"id": f"row {n}"} for n in range(2000)]
    task = load_boolq(str(write_rows(tmp_path / "rows.jsonl", rows)))
    shares = [len(task.questions(split)) / 2000 for split in ("train", "diagnose", "test")]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.04)


def test_question_marks_are_not_doubled(tmp_path: Path):
    rows = [ROWS[0] | {"question": "is it ? ", "id": n} for n in range(9)]
    task = load_boolq(str(write_rows(tmp_path / "rows.jsonl", rows)))
    assert "Question: is it?\n" in task.questions("train")[0].prompt[0].content


def test_a_packed_file_is_read_too(tmp_path: Path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    assert load_boolq(str(path)).by_split == load_boolq(str(write_rows(tmp_path / "r.jsonl", ROWS))).by_split


@pytest.mark.parametrize(
    "change",
    [{"answer": "yes"}, {"answer": None}, {"answer": 1}, {"question": ""}, {"passage": None}, {"passage": ["a"]}],
    ids=str,
)
def test_a_row_that_lacks_something_is_named(tmp_path: Path, change: dict):
    path = write_rows(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1] | change])
    with pytest.raises(SpecError, match=f"{path}, line 2: a BoolQ row needs question, passage and answer"):
        load_boolq(str(path))


def test_an_id_that_comes_twice_is_named(tmp_path: Path):
    path = write_rows(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], ROWS[0]])
    with pytest.raises(SpecError, match="line 3: the id 'boolq-0' is already that of line 1"):
        load_boolq(str(path))


def test_the_data_folder_is_asked_for_and_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HYDROMETER_DATA", raising=False)
    with pytest.raises(SpecError, match=r"give boolq:PATH, or set HYDROMETER_DATA.*boolq_validation.jsonl.gz"):
        load_boolq(None)
    monkeypatch.setenv("HYDROMETER_DATA", str(tmp_path))
    with pytest.raises(SpecError, match=f"HYDROMETER_DATA is {tmp_path}, and there is no boolq_validation.jsonl.gz"):
        load_boolq(None)
    with pytest.raises(SpecError, match="'boolq:/no/such/file': there is no file"):
        load_boolq("/no/such/file")
    (tmp_path / "boolq_validation.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS[0]).encode()))
    assert sum(len(questions) for questions in load_boolq(None).by_split.values()) == 1


@pytest.mark.data
def test_the_real_questions_all_load(data_folder: Path):
    task = load_boolq(None)
    questions = [q for split in ("train", "diagnose", "test") for q in task.questions(split)]
    assert len(questions) == 3270
    assert sum(q.answer == "yes" for q in questions) == 2033, "the published share of yes in the validation set"
    assert len(task.questions("diagnose")) > 700
    for q in questions:
        assert {q.answer, q.wrong_answer} == {"yes", "no"}
        assert q.prompt[0].content.count("?\n\nExplain in one") == 1
        assert verify_boolean(q, f"So. Answer: {q.answer}").strict == (1.0, True, True)
        assert verify_boolean(q, f"So. Answer: {q.wrong_answer}").strict == (0.0, False, True)
