import json
from pathlib import Path
from typing import Any

import huggingface_hub
import polars as pl
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from hydrometer.errors import SpecError
from hydrometer.tasks import load_task
from hydrometer.tasks.hub import load_hub
from hydrometer.types import Message


def rows(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"{n} + 1?", "answer": n + 1} | more for n in range(start, start + count)]


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame(found).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def sizes(folder: Path, spec: str | None = None) -> dict[str, int]:
    return {split: len(found) for split, found in load_hub(spec or str(folder)).by_split.items()}


def test_columns_are_read_from_parquet(tmp_path: Path):
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    row = {"id": 7, "prompt": turns, "answer": "a", "privileged_context": "because", "teacher_id": "t", "extra": 1.5}
    write(tmp_path / "validation.parquet", [row])
    write(tmp_path / "test.parquet", [{"id": 8, "prompt": turns[1:], "answer": "a"}])
    write(tmp_path / "train.parquet", [{"id": 9, "problem": "p", "answer": "w\n#### 72"}])
    task = load_hub(str(tmp_path))
    [question] = task.by_split["diagnose"]
    assert (question.question_id, question.task) == ("7", f"hf:{tmp_path}")
    assert question.prompt == (Message("system", "S"), Message("user", "U"))
    assert (question.answer, question.solution, question.teacher_id) == ("a", "because", "t")
    assert (task.by_split["train"][0].answer, task.by_split["train"][0].solution) == ("72", "w")
    assert task.by_split["test"][0].prompt == (Message("user", "U"),)


def test_split_names_are_mapped(tmp_path: Path):
    write(tmp_path / "data/train-00000-of-00002.parquet", rows(5))
    write(tmp_path / "data/train-00001-of-00002.parquet", rows(5, 5))
    write(tmp_path / "data/test-00000-of-00001.parquet", rows(40, 100))
    write(tmp_path / "README.jsonl", rows(3, 500))
    found = sizes(tmp_path)
    assert found["train"] == 10
    assert found["diagnose"] + found["test"] == 40
    assert 10 < found["diagnose"] < 30
    write(tmp_path / "data/validation.parquet", rows(7, 200))
    assert sizes(tmp_path) == {"train": 10, "diagnose": 7, "test": 40}


def test_a_data_set_without_split_names_is_divided_by_its_questions(tmp_path: Path):
    write(tmp_path / "questions.jsonl", rows(400))
    found = load_hub(str(tmp_path))
    shares = [len(found.by_split[split]) / 400 for split in ("train", "diagnose", "test")]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.07)
    prompts = [question.prompt for questions in found.by_split.values() for question in questions]
    assert len(set(prompts)) == 400
    write(tmp_path / "questions.jsonl", rows(400)[::-3])
    part = load_hub(str(tmp_path))
    assert {q.prompt for q in part.by_split["test"]} <= {q.prompt for q in found.by_split["test"]}


def test_a_question_asked_in_two_files_stays_out_of_training(tmp_path: Path):
    write(tmp_path / "train.jsonl", rows(10))
    write(tmp_path / "test.jsonl", rows(10, 5))
    found = load_hub(str(tmp_path)).by_split
    held_out = {q.prompt for split in ("diagnose", "test") for q in found[split]}
    assert len(held_out) == 10
    assert len(found["train"]) == 5
    assert not held_out & {q.prompt for q in found["train"]}


def test_configurations_are_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "main/train.jsonl", rows(3))
    write(tmp_path / "socratic/train.jsonl", rows(4))
    asked = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options["repo_type"], options["revision"], tuple(options["allow_patterns"])))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(SpecError, match=r"several configurations: main, socratic. Take one: hf:openai/gsm8k/main"):
        load_hub("openai/gsm8k")
    assert sum(sizes(tmp_path, "openai/gsm8k/socratic").values()) == 4
    assert sum(sizes(tmp_path, "openai/gsm8k@v1.0/main").values()) == 3
    assert asked[0][:3] == ("openai/gsm8k", "dataset", None)
    assert asked[2][:3] == ("openai/gsm8k", "dataset", "v1.0")
    assert all(pattern.startswith("main/") for pattern in asked[2][3])
    with pytest.raises(SpecError, match=r"'hf:openai/gsm8k/other' \(configuration other\) has no .parquet"):
        load_hub("openai/gsm8k/other")


def test_a_dataset_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch):
    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None

    for error in (LocalEntryNotFoundError("no file and offline"), RepositoryNotFoundError("404", response=Response())):  # type: ignore[arg-type]

        def fail(*_: Any, error: Exception = error, **__: Any) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(SpecError, match=r"'hf:a/b@c': dataset a/b@c cannot be had from the Hub: .*\nFor files on"):
            load_hub("a/b@c")


@pytest.mark.parametrize("spec", ["a/b/c/d", "a b", "a/b@", "@x", "a//b"])
def test_a_spec_that_is_none_is_told(spec: str):
    with pytest.raises(SpecError, match=r"expected hf:OWNER/NAME\[@REVISION\]\[/CONFIG\]"):
        load_hub(spec)


def test_what_is_wrong_in_a_folder_is_told(tmp_path: Path):
    with pytest.raises(SpecError, match=r"there is no folder"):
        load_hub(str(tmp_path / "none"))
    with pytest.raises(SpecError, match=r"has no .parquet, .jsonl or .jsonl.gz file"):
        load_hub(str(tmp_path))
    path = write(tmp_path / "train.jsonl", [])
    with pytest.raises(SpecError, match=r"holds no questions"):
        load_hub(str(tmp_path))
    write(path, [{"text": "no columns", "answer": "a"}])
    with pytest.raises(SpecError, match=r"train.jsonl line 1: 'prompt' has to be .* found None .nor is there a column"):
        load_hub(str(tmp_path))
    write(path, [{"id": "a", **row} for row in rows(2)])
    with pytest.raises(SpecError, match=r"line 2: the id 'a' is already that of train.jsonl line 1"):
        load_hub(str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(SpecError, match=r"train.parquet cannot be read"):
        load_hub(str(tmp_path))


def test_a_folder_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "mine/test.parquet", rows(30, answer_type="integer"))
    monkeypatch.chdir(tmp_path)
    task = load_task("hf:./mine")
    question = task.questions("diagnose")[0]
    assert task.name == "hf:./mine"
    assert task.verify(question, f"Answer: {question.answer}").strict.correct
    with pytest.raises(SpecError, match=r"hf:./mine has no questions in the split 'train'"):
        task.questions("train")
