"""Ctrl-C, SIGTERM, SIGKILL and a full disk in the middle of a training, in a process of its own: nothing is lost."""

import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Command
from tiny_training import tiny_training, write_training_task

from hydrometer.artifacts import read_json, read_table
from hydrometer.cli.main import run_command
from hydrometer.models.transformers_model import load_model
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint

STEPS = "12"
SLOW = """
import sys, time
import hydrometer.training.run
from hydrometer.training.loop import Trainer
prepare = Trainer.prepare

def slowly(trainer, step):
    time.sleep(0.6)
    return prepare(trainer, step)

Trainer.prepare = slowly
from hydrometer.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def task(workplace: Path) -> None:
    write_training_task(workplace)


@pytest.fixture(scope="module")
def unbroken(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    for name in ("student", "good"):
        (folder / name).symlink_to(checkpoints / name)
    write_training_task(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(arguments()) == 0
    return folder / "out"


@pytest.fixture
def straight(unbroken: Path, workplace: Path) -> None:
    """The same run as `straight` in the current folder."""
    (workplace / "straight").symlink_to(unbroken)


def arguments(**changes: str) -> list[str]:
    return [*tiny_training(steps=STEPS, eval_steps="5", **changes), "--no-check"]


def start(script: str, given: list[str], folder: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, *given]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder, env=environment)


def wait_for_steps(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    metrics = folder / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"ended early: {process.communicate()[1]}")


def assert_same(found: str, expected: str) -> None:
    """Weights, metrics and evaluations of two runs, to the last bit."""
    first, second = (load_model(f"{folder}/model").network.state_dict() for folder in (found, expected))
    assert all(first[name].equal(tensor) for name, tensor in second.items())
    rows = [
        [json.loads(line) for line in (Path(f) / "metrics.jsonl").read_text().splitlines()] for f in (found, expected)
    ]
    for row in (*rows[0], *rows[1]):
        row.pop("wall_s")
    assert rows[0] == rows[1]
    tables = [read_table(Path(folder) / "evaluation.parquet") for folder in (found, expected)]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_training_keeps_its_last_whole_step(
    sent: signal.Signals, workplace: Path, straight: None, run: Command
) -> None:
    process = start(SLOW, arguments(), workplace)
    wait_for_steps(workplace / "out", 3, process)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err and "--resume" in err, err
    told = read_json(workplace / "out" / "run.json")
    checkpoint = find_checkpoint(workplace / "out")
    assert checkpoint is not None
    lines = (workplace / "out" / "metrics.jsonl").read_bytes().count(b"\n")
    assert told["status"] == "interrupted"
    assert told["steps_done"] == read_checkpoint(checkpoint).step == lines >= 3
    assert run([*arguments(), "--resume"]).code == 0
    assert_same("out", "straight")


@pytest.mark.parametrize("options", [{}, {"lora_rank": "2", "teacher": "self+answer", "self_teacher": "ema"}])
@pytest.mark.slow
def test_a_process_killed_at_several_steps_resumes_to_the_unbroken_run(
    options: dict[str, str], workplace: Path, run: Command
) -> None:
    given = arguments(save_steps="3", **options)
    for steps in (1, 4, 8, 11):
        process = start(SLOW, [*given, "--resume"], workplace)
        wait_for_steps(workplace / "out", steps, process)
        process.kill()
        process.communicate()
    assert run([*given, "--resume"]).code == 0
    assert run(arguments(save_steps="3", out="straight", **options)).code == 0
    name = "adapter/adapter_model.safetensors" if options else "model/model.safetensors"
    assert (workplace / "out" / name).read_bytes() == (workplace / "straight" / name).read_bytes()


PLACES = [
    ("hydrometer.training.log.Lines.append", "metrics.jsonl", 2000),
    ("hydrometer.training.keeping.write_table", "evaluation.parquet", 100),
    ("hydrometer.training.keeping.save_checkpoint", "step-", 2000),
    ("hydrometer.training.run.save_model", "model", 2000),
]


@pytest.mark.parametrize(("place", "named", "limit"), PLACES)
def test_a_full_disk_is_told_in_a_sentence_and_the_run_goes_on_when_there_is_room(
    place: str, named: str, limit: int, straight: None, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the function at `place` works, files may grow to `limit` bytes."""
    with monkeypatch.context() as patch:
        grow_little(patch, place, limit)
        said = run(arguments())
    assert said.code == 2
    assert named in said.err and "--resume" in said.err
    assert read_json(Path("out") / "run.json")["status"] == "failed"
    assert run([*arguments(), "--resume"]).code == 0
    assert_same("out", "straight")
    assert not list(Path("out").rglob("*.partial"))


def grow_little(patch: pytest.MonkeyPatch, place: str, limit: int) -> None:
    module, _, name = place.rpartition(".")
    owner = pkgutil.resolve_name(module)
    real = getattr(owner, name)

    def limited(*args: Any, **options: Any) -> Any:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            return real(*args, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    patch.setattr(owner, name, limited)
