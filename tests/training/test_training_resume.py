"""A training that was cut off and resumed is the one that was not, to the last bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from short_runs import assert_same_run, read_metrics, read_weights, run_short

import hydrometer.training.loop as loop
from hydrometer.artifacts import read_json
from hydrometer.errors import RunFolderError
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint

KINDS: dict[str, dict[str, Any]] = {
    "weights": {},
    "ema": {"teacher": "self+answer", "self_teacher": "ema", "ema_decay": 0.5, "learning_rate": 1e-2},
    "lora": {"lora_rank": 2, "teacher": "self+answer", "learning_rate": 1e-2},
}


class Death(BaseException):
    """Nothing in the program handles it."""


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """As after a kill: the run ends in the middle of a step, and nothing is tidied up."""
    prepare = loop.Trainer.prepare

    def dying(trainer: loop.Trainer, at: int) -> loop.Batch:
        if at == step:
            raise Death
        return prepare(trainer, at)

    monkeypatch.setattr(loop.Trainer, "prepare", dying)
    monkeypatch.setattr("hydrometer.training.run._leave", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unbroken run with default options; it must not be changed."""
    folder = tmp_path_factory.mktemp("finished")
    run_short(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def unbroken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, finished: Path
) -> tuple[dict[str, Any], Path]:
    if not KINDS[request.param]:
        return {}, finished
    folder = tmp_path_factory.mktemp(request.param)
    run_short(folder, **KINDS[request.param])
    return KINDS[request.param], folder


def test_a_run_that_died_in_any_step_resumes_to_the_unbroken_run(
    unbroken: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    options, expected = unbroken
    """Before the first checkpoint, then at the first step after one, then a step later."""
    for step in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, step)
            with pytest.raises(Death):
                run_short(tmp_path, resume=True, **options)
        assert len(read_metrics(tmp_path)) == step
    run_short(tmp_path, resume=True, **options)
    assert_same_run(tmp_path, expected)


def test_a_torn_line_and_a_torn_checkpoint_are_redone(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, 3)
        with pytest.raises(Death):
            run_short(folder)
    metrics = folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-40])
    checkpoint = find_checkpoint(folder)
    assert checkpoint is not None
    torn = checkpoint.with_name("step-00000003.partial")
    torn.write_bytes(checkpoint.read_bytes()[:1000])
    run_short(folder, resume=True)
    assert_same_run(folder, finished)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000004.safetensors"]


def test_an_earlier_checkpoint_takes_metrics_alarms_and_evaluations_back_to_it(tmp_path: Path) -> None:
    """A run that got further than its last checkpoint writes those steps again, not twice."""
    folder = tmp_path / "run"
    run_short(folder, eval_steps=1, save_steps=1)
    shutil.copytree(folder, tmp_path / "unbroken")
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, 2)
        with pytest.raises(Death):
            run_short(tmp_path / "early", eval_steps=1, save_steps=1)
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(tmp_path / "early" / "checkpoints", folder / "checkpoints")
    run_short(folder, resume=True, eval_steps=1, save_steps=1)
    assert_same_run(folder, tmp_path / "unbroken")


def test_a_finished_run_does_no_step_again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path / "run")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(loop.Trainer, "prepare", refuse)
    monkeypatch.setattr("hydrometer.training.keeping.evaluate_model", refuse)
    again = run_short(tmp_path / "run", resume=True)
    assert again.summary == read_json(finished / "summary.json")
    assert_same_run(tmp_path / "run", finished)


def test_a_run_may_be_made_longer(finished: Path, tmp_path: Path) -> None:
    run_short(tmp_path / "run", steps=2)
    assert read_json(tmp_path / "run" / "run.json")["steps_done"] == 2
    run_short(tmp_path / "run", resume=True)
    assert read_metrics(tmp_path / "run") == read_metrics(finished)
    mine, theirs = read_weights(tmp_path / "run"), read_weights(finished)
    assert all(mine[name].equal(theirs[name]) for name in theirs)


def test_a_schedule_that_ends_at_the_last_step_fixes_the_number_of_steps(tmp_path: Path) -> None:
    run_short(tmp_path / "run", steps=2, lr_scheduler_type="linear", eval_questions=0)
    with pytest.raises(RunFolderError, match="steps: was 2, now 4"):
        run_short(tmp_path / "run", resume=True, lr_scheduler_type="linear", eval_questions=0)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"learning_rate": 3e-4}, "learning_rate: was None, now 0.0003"),
        ({"objective": "forward_kl"}, r"objective: was \['reverse_kl'\], now \['forward_kl'\]"),
        ({"prompts_per_step": 5}, "prompts_per_step: was 3, now 5"),
        ({"weights": "incorrect"}, "weights: was 'all', now 'incorrect'"),
        ({"seed": 3}, "seed: was 0, now 3"),
    ],
)
def test_what_would_make_other_steps_is_refused_by_name(changed: dict[str, Any], named: str, finished: Path) -> None:
    with pytest.raises(RunFolderError, match=named):
        run_short(finished, resume=True, steps=6, **changed)


def test_micro_batches_may_change_on_the_way(tmp_path: Path) -> None:
    run_short(tmp_path / "run", steps=1, eval_questions=0)
    run_short(tmp_path / "run", steps=2, micro_batch=2, resume=True, eval_questions=0)
    assert read_json(tmp_path / "run" / "run.json")["steps_done"] == 2


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(finished: Path, tmp_path: Path) -> None:
    run_short(tmp_path / "second")
    run_short(tmp_path / "other", seed=1, steps=1)
    assert_same_run(tmp_path / "second", finished)
    assert read_metrics(tmp_path / "other")[0] != read_metrics(finished)[0]


def test_a_damaged_checkpoint_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    checkpoint = find_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert read_checkpoint(checkpoint).step == 4
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(RunFolderError, match=r"step-00000004\.safetensors is damaged"):
        run_short(tmp_path / "run", resume=True)


def test_run_json_says_what_was_trained_on_what(finished: Path) -> None:
    told = read_json(finished / "run.json")
    assert (told["status"], told["steps_done"], told["learning_rate"]) == ("done", 4, 1e-3)
    assert told["cost"]["rollouts"] == 4 * 3 * 2
    assert told["cost"]["generated_tokens"] == read_metrics(finished)[-1]["tokens"]
    assert set(told["models"]) == {"student", "expert"}
    assert read_json(finished / "summary.json")["steps"] == 4
