import json
from pathlib import Path

import pytest

from hydrometer.errors import SpecError, UnknownNameError, VerifierError
from hydrometer.tasks import TASKS, load_task
from hydrometer.types import Grades, Score, Task


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
        ("gsm8", "Did you mean gsm8k"),
        ("quiz", "Known: aime2024, aime2025, boolq"),
        ("aime", "Did you mean aime202"),
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


@pytest.mark.parametrize("spec", ["hf", "hf:"])
def test_hf_needs_a_dataset(spec: str):
    with pytest.raises(SpecError, match="'hf' needs a dataset"):
        load_task(spec)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_on_offer_is_known(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HYDROMETER_DATA", raising=False)
    try:
        assert load_task(name).name == name
    except SpecError as error:
        assert name in str(error)  # it needs data or a path


@pytest.mark.parametrize(
    ("verifier", "kind", "words"),
    [
        ("intger", UnknownNameError, "Unknown verifier 'intger'. Did you mean integer"),
        ("zzz", UnknownNameError, "module:function"),
        ("grading:", SpecError, "'grading:': expected module:function"),
        ("a b:f", SpecError, "expected module:function"),
        ("reasoning_gym", SpecError, "scores tasks reasoning_gym:NAME only, not 'bundled:chain'"),
        ("no_such_module_here:f", VerifierError, "'no_such_module_here:f' cannot be loaded: ModuleNotFoundError"),
        ("json:lods", VerifierError, "cannot be loaded: AttributeError: module 'json' has no attribute 'lods'"),
        ("json:__name__", VerifierError, "is a str, not a function"),
    ],
)
def test_a_verifier_that_cannot_be_is_told_at_once(verifier: str, kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        load_task("bundled:chain", verifier)


def test_another_verifier_can_be_named():
    task = load_task("bundled:chain", "integer")
    question = task.questions("diagnose")[0]
    assert task.verify(question, f"#### {question.answer}") == Grades.same(Score(1.0, True, True))
    assert load_task("bundled:chain").verify(question, f"#### {question.answer}").strict.correct is False
