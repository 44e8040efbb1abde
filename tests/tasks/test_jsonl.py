import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hydrometer.errors import SpecError
from hydrometer.tasks.jsonl import load_jsonl
from hydrometer.types import Message, Question


def write_lines(path: Path, *lines: str | dict[str, Any]) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text, encoding="utf-8")
    return str(path)


def load_one(tmp_path: Path, row: str | dict[str, Any]) -> Question:
    return load_jsonl(write_lines(tmp_path / "rows.jsonl", row)).questions("diagnose")[0]


def test_a_row_with_everything(tmp_path: Path):
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    row = {"id": 7, "prompt": turns, "answer": 12.5, "solution": "25/2", "wrong_answer": 12, "other": [1]}
    assert load_one(tmp_path, row) == Question(
        "7", "jsonl", (Message("system", "S"), Message("user", "U")), "12.5", "25/2", "12"
    )


def test_a_row_with_the_least(tmp_path: Path):
    assert load_one(tmp_path, {"prompt": "a?", "answer": 0}) == Question(
        "row-000001", "jsonl", (Message("user", "a?"),), "0", None, None
    )
    nothing = {"id": None, "solution": None, "wrong_answer": None, "privileged_context": " "}
    assert load_one(tmp_path, {"prompt": "a?", "answer": True} | nothing).answer == "True"


def test_columns_of_other_tools_are_understood(tmp_path: Path):
    assert load_one(tmp_path, {"prompt": "a", "answer": "b", "privileged_context": "c"}).solution == "c"
    both = {"prompt": "a", "answer": "b", "solution": "s", "privileged_context": "c", "question_id": "x"}
    assert load_one(tmp_path, both).solution == "s"
    assert load_one(tmp_path, both).question_id == "x"


def test_lines_keep_their_order_and_blank_ones_are_passed_over(tmp_path: Path):
    rows = [{"prompt": f"p{n}", "answer": "a"} for n in (3, 1, 2)]
    task = load_jsonl(write_lines(tmp_path / "rows.jsonl", rows[0], "", rows[1], "   ", rows[2]))
    assert [q.prompt[0].content for q in task.questions("diagnose")] == ["p3", "p1", "p2"]
    assert [q.question_id for q in task.questions("diagnose")] == ["row-000001", "row-000003", "row-000005"]


def test_splits_are_taken_as_given_and_a_missing_one_is_told(tmp_path: Path):
    rows = [{"prompt": "p", "answer": "a", "split": split} for split in ("test", "train", "test")]
    path = write_lines(tmp_path / "rows.jsonl", *rows)
    task = load_jsonl(path)
    assert (len(task.questions("test")), len(task.questions("train"))) == (2, 1)
    with pytest.raises(SpecError, match=r"no questions in the split 'diagnose'.*it has \['test', 'train'\]"):
        task.questions("diagnose")
    assert task.name == f"jsonl:{path}"


def test_packed_files_and_files_with_a_byte_order_mark_are_read(tmp_path: Path):
    line = json.dumps({"prompt": "grüße", "answer": "ä"}, ensure_ascii=False)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n")
    for name in ("rows.jsonl.gz", "bom.jsonl"):
        [question] = load_jsonl(str(tmp_path / name)).questions("diagnose")
        assert (question.prompt[0].content, question.answer) == ("grüße", "ä")


GOOD = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p"}, "the question has no answer"),
        (GOOD | {"answer": None}, "the question has no answer"),
        (GOOD | {"answer": " "}, "the question has no answer"),
        (GOOD | {"answer": ["a"]}, r"'answer' has to be text or a number, found \['a'\]"),
        (GOOD | {"solution": {"a": 1}}, "'solution' has to be text or a number"),
        (GOOD | {"wrong_answer": " A. "}, "'wrong_answer' is ' A. ', which is the answer"),
        ({"answer": "a"}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": "  "}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": []}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": [{"role": "user"}]}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": [{"role": "user", "content": None}]}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": ["hello"]}, "'prompt' has to be text or a list"),
        (GOOD | {"prompt": [{"role": "bot", "content": "x"}]}, "unknown role 'bot'"),
        (GOOD | {"prompt": [{"role": "assistant", "content": "x"}]}, "last message of 'prompt' has role 'assistant'"),
        (GOOD | {"split": "validation"}, "unknown split 'validation'; expected one of train, diagnose, test"),
        (GOOD | {"split": ["test"]}, r"unknown split \['test'\]"),
        ('{"prompt": "p", ', 'not JSON .*: \'{"prompt": "p",\''),
        ("[1, 2]", r"expected a JSON object, found '\[1, 2\]'"),
        ('"text"', "expected a JSON object"),
        ('{"prompt": "p", "answer": ' + "1" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"prompt": "half \\ud83d", "answer": "a"}', "half of a surrogate pair"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, row: str | dict[str, Any], words: str):
    path = write_lines(tmp_path / "rows.jsonl", GOOD, "", row)
    with pytest.raises(SpecError, match=words) as caught:
        load_jsonl(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("types", "verifier"),
    [
        ([None, None], "exact"),
        (["integer", None], "integer"),
        (["latex", "math"], "math"),
        (["string", "text"], "exact"),
        (["boolean", "boolean"], "boolean"),
        (["choice", "choice"], "choice"),
    ],
)
def test_the_answer_type_chooses_the_verifier(tmp_path: Path, types: list[str | None], verifier: str):
    rows = [GOOD | {"answer_type": name} for name in types]
    assert load_jsonl(write_lines(tmp_path / "rows.jsonl", *rows)).verifier == verifier
    assert load_jsonl(write_lines(tmp_path / "rows.jsonl", *rows), "integer").verifier == "integer"


def test_answer_types_that_do_not_fit_are_named_with_their_lines(tmp_path: Path):
    rows = [GOOD, GOOD | {"answer_type": "latex"}, GOOD | {"answer_type": "integer"}]
    with pytest.raises(SpecError, match=r"different verifiers: integer \(.*line 3\), math \(.*line 2\).*--verifier"):
        load_jsonl(write_lines(tmp_path / "rows.jsonl", *rows))
    with pytest.raises(SpecError, match="line 2: unknown answer_type 'colour'; expected one of exact, string"):
        load_jsonl(write_lines(tmp_path / "rows.jsonl", GOOD, GOOD | {"answer_type": "colour"}))


def test_a_bare_question_gets_a_form_and_a_prompt_does_not(tmp_path: Path):
    row = {"question": "6 * 7? ", "answer": "6 * 7 = 42\n#### 42", "answer_type": "integer", "teacher_id": "big"}
    question = load_one(tmp_path, row)
    assert question.prompt == (
        Message("user", "6 * 7?\n\nFinish with a line 'Answer: N', where N is the number alone."),
    )
    assert (question.answer, question.solution, question.teacher_id) == ("42", "6 * 7 = 42", "big")
    assert load_one(tmp_path, row | {"prompt": "just this"}).prompt == (Message("user", "just this"),)
    assert load_one(tmp_path, {"problem": "p", "answer": "a"}).prompt[0].content.startswith("p\n\nFinish")


def test_whole_surrogate_pairs_are_text(tmp_path: Path):
    assert load_one(tmp_path, '{"prompt": "\\ud83d\\ude00", "answer": "a"}').prompt[0].content == "\U0001f600"


def test_an_id_that_comes_twice_is_named(tmp_path: Path):
    path = write_lines(tmp_path / "rows.jsonl", GOOD | {"id": 1}, GOOD, GOOD | {"id": "1"})
    with pytest.raises(SpecError, match="line 3: the id '1' is already that of line 1"):
        load_jsonl(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    packed = gzip.compress(json.dumps(GOOD).encode() * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    (tmp_path / "damaged.jsonl.gz").write_bytes(packed[:14] + b"\xff\xff\xff\xff" + packed[18:])
    (tmp_path / "plain.jsonl.gz").write_text(json.dumps(GOOD))
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "grüße", "answer": "a"}'.encode("latin-1"))
    for name in ("cut.jsonl.gz", "damaged.jsonl.gz", "plain.jsonl.gz", "latin.jsonl"):
        with pytest.raises(SpecError, match=f"{name} cannot be read|{name}, line 1: not JSON"):
            load_jsonl(str(tmp_path / name))


@pytest.mark.parametrize("name", ["nothing.jsonl", "folder", "~nosuchuser/rows.jsonl", "x" * 5000])
def test_what_is_not_a_file_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=f"'jsonl:{name}': there is no file"):
        load_jsonl(name)


def test_an_empty_file_holds_no_questions(tmp_path: Path):
    with pytest.raises(SpecError, match="holds no questions"):
        load_jsonl(write_lines(tmp_path / "rows.jsonl", "", " "))
