"""Ctrl-C, SIGTERM, SIGKILL and a full disk in the middle of a training, in a process of its own: nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import Command
from tiny_training import tiny_training, write_training_task

from hydrometer.artifacts import read_json, read_table
from hydrometer.models.transformers_model import load_model
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint

STEPS = "12"
SLOW = """
import sys, time
import hydrometer.training.run
from hydrometer.training.loop import Trainer
prepare = Trainer.prepare

def slowly(trainer, step):
    time.sleep(0.05)
    return prepare(trainer, step)

Trainer.prepare = slowly
from hydrometer.cli.main import main
main(sys.argv[1:])
"""
LITTLE_DISK = """
import resource, signal, sys
import hydrometer.training.run
from hydrometer.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main(sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def task(workplace: Path) -> None:
    write_training_task(workplace)


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
    rows = [[json.loads(line) for line in (Path(f) / "metrics.jsonl").open()] for f in (found, expected)]
    for row in (*rows[0], *rows[1]):
        row.pop("wall_s")
    assert rows[0] == rows[1]
    tables = [read_table(Path(folder) / "evaluation.parquet") for folder in (found, expected)]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_keeps_its_last_whole_step(sent: signal.Signals, workplace: Path, run: Command) -> None:
    process = start(SLOW, arguments(), workplace)
    wait_for_steps(workplace / "out", 3, process)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err and "--resume" in err
    told = read_json(workplace / "out" / "run.json")
    checkpoint = find_checkpoint(workplace / "out")
    assert checkpoint is not None
    lines = (workplace / "out" / "metrics.jsonl").read_bytes().count(b"\n")
    assert told["status"] == "interrupted"
    assert told["steps_done"] == read_checkpoint(checkpoint).step == lines >= 3
    assert run([*arguments(), "--resume"]).code == 0
    assert run(arguments(out="straight")).code == 0
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
    assert run([*given, "--out", "straight"]).code == 0
    kind = "adapter" if options else "model"
    weights = [(Path(f) / kind / f"{kind}_model.safetensors".removeprefix("model_")) for f in ("out", "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("limit", "named"), [(900, "journal.jsonl"), (4_000, "metrics.jsonl"), (9_000, "step-"), (15_000, "model")]
)
def test_a_full_disk_is_told_in_a_sentence_and_the_run_goes_on_when_there_is_room(
    limit: int, named: str, workplace: Path, run: Command
) -> None:
    process = start(LITTLE_DISK, [str(limit), *arguments()], workplace)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    message = err[err.index("hydrometer: ") :]
    assert named in message and "--resume" in message
    assert len(message.splitlines()) <= 4
    assert run([*arguments(), "--resume"]).code == 0
    assert run(arguments(out="straight")).code == 0
    assert_same("out", "straight")
    assert not list((workplace / "out").rglob("*.partial"))
