import json
from pathlib import Path

import pytest

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks import TASKS, load_task
from hydrometer.types import Task


@pytest.mark.parametrize("name", ["bundled:chain", "bundled:chain-strict"])
def test_bundled_tasks_answer_to_their_names(name: str):
    task = load_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert task.questions("diagnose")[0].task == name


def test_a_path_follows_the_name(tmp_path: Path):
    rows = tmp_path / "a:b.jsonl"
    rows.write_text(json.dumps({"prompt": "p", "answer": "a", "passage": "x"}))
    assert load_task(f"jsonl:{rows}").name == f"jsonl:{rows}"
    with pytest.raises(SpecError, match="a BoolQ row needs"):
        load_task(f"boolq:{rows}")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("bundled:chian", "Did you mean bundled:chain"),
        ("bundled:chain-strct", "Did you mean bundled:chain-strict"),
        ("boolqq", "Did you mean boolq"),
        ("jsonlines", "Did you mean jsonl"),
        ("gsm8k", "Known: boolq, bundled:chain, bundled:chain-strict, jsonl"),
        ("", "Known:"),
    ],
)
def test_an_unknown_task_gets_near_matches(spec: str, hint: str):
    with pytest.raises(UnknownNameError, match=f"Unknown task '{spec}'") as caught:
        load_task(spec)
    assert hint in str(caught.value)


def test_a_misspelt_name_before_a_long_path_gets_near_matches_too():
    with pytest.raises(UnknownNameError, match="Did you mean jsonl"):
        load_task("josnl:/data/some/long/folder/questions.jsonl")


@pytest.mark.parametrize("spec", ["jsonl", "jsonl:"])
def test_jsonl_needs_a_path(spec: str):
    with pytest.raises(SpecError, match="needs the path of a file"):
        load_task(spec)


def test_every_task_on_offer_is_loaded_above():
    assert set(TASKS) == {"bundled:chain", "bundled:chain-strict", "boolq", "jsonl"}
