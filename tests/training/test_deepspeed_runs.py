"""Two processes on a CPU (gloo) that split the student by DeepSpeed's ZeRO train as one process does.

pip install deepspeed; pytest -m deepspeed tests/training/test_deepspeed_runs.py
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import read_metrics, read_weights, run_short
from two_runs import CASES, CASES_SPLIT, OPTIONS, assert_close, run_two

from hydrometer.artifacts import read_json
from hydrometer.training.checkpoints import Checkpoint, find_checkpoint, read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.deepspeed,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed"),
]
TOLERANCE = 5e-5
"""Of a weight, after steps of up to 1e-3: AdamW makes much of the rounding of a gradient near zero."""


def launched(folder: Path, stage: int) -> dict[str, str]:
    """What `accelerate launch` sets; every tensor is split, also those that are too small to be by default."""
    path = folder / f"stage{stage}.json"
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    path.write_text(json.dumps({"zero_optimization": zero, "train_batch_size": "auto"}))
    return {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}


def last_checkpoint(run: Path) -> Checkpoint:
    found = find_checkpoint(run)
    assert found is not None
    return read_checkpoint(found)


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        pytest.param(0, CASES["all kinds of terms"], id="0, all kinds of terms"),
        *(
            pytest.param(1, CASES[name], id=f"1, {name}")
            for name in ("weights that need a look ahead", "lora and itself")
        ),
        *(pytest.param(2, options, id=f"2, {name}") for name, options in CASES.items()),
        *(pytest.param(3, options, id=f"3, {name}") for name, options in CASES_SPLIT.items()),
    ],
)
def test_every_stage_gives_what_one_process_gives(stage: int, options: dict[str, Any], tmp_path: Path) -> None:
    ended = run_two(tmp_path / "two", launch=launched(tmp_path, stage), **options)
    assert [code for code, _ in ended] == [0, 0], ended
    run_short(tmp_path / "one", **OPTIONS | options)
    assert_close(tmp_path / "two", tmp_path / "one", tolerance=TOLERANCE)
    mine, theirs = last_checkpoint(tmp_path / "two"), last_checkpoint(tmp_path / "one")
    assert mine.tensors.keys() == theirs.tensors.keys() and mine.step == theirs.step
    for name, tensor in theirs.tensors.items():
        assert mine.tensors[name].dtype == tensor.dtype and mine.tensors[name].shape == tensor.shape, name


def test_16_bit_weights_are_stepped_in_float32(tmp_path: Path) -> None:
    """As near to one process as gradients that are summed in 16 bits there and in 32 here can be."""
    options = {"dtype": "bfloat16", "weights": "all", "steps": 2}
    ended = run_two(tmp_path / "two", launch=launched(tmp_path, 2), **options)
    assert [code for code, _ in ended] == [0, 0], ended
    run_short(tmp_path / "one", **OPTIONS | options)
    mine, theirs = last_checkpoint(tmp_path / "two").tensors, last_checkpoint(tmp_path / "one").tensors
    weights = [name for name in theirs if name.startswith("weight.")]
    assert all(mine[name].dtype == torch.float32 for name in weights)
    assert any(not mine[name].equal(mine[name].bfloat16().float()) for name in weights)
    moved = torch.cat([(mine[name] - theirs[name]).flatten().abs() for name in weights])
    assert float(moved.mean()) < 1e-4 and float(moved.max()) < 4e-3, "two steps of at most 1e-3 in either direction"
    rows = [read_metrics(tmp_path / name)[0] for name in ("two", "one")]
    assert rows[0]["gradient_norm"] == pytest.approx(rows[1]["gradient_norm"], rel=0.01)


COUNT = """
real = loop.Trainer.update
def counting(trainer, *given):
    held, zero = trainer.held, trainer.held.loss.optimizer
    gradients = sum(p.grad.numel() for p in held.trained if p.grad is not None)
    found = real(trainer, *given)
    moments = sum(state["exp_avg"].numel() for state in zero.state.values())
    weights = sum(p.numel() for p in held.network.parameters())
    parts = sum(p.ds_tensor.numel() for p in held.network.parameters()) if weights == 0 else 0
    own = sum(p.numel() for p in trainer.shop.student.network.parameters())
    print("held", RANK, gradients, moments, weights, parts, own)
    return found
loop.Trainer.update = counting
"""


@pytest.mark.parametrize("stage", [2, 3])
def test_each_of_two_processes_keeps_half_of_what_its_stage_splits(stage: int, tmp_path: Path) -> None:
    options = {"steps": 1, "weights": "all", "eval_questions": 0}
    ended = run_two(tmp_path / "run", launch=launched(tmp_path, stage), patch=COUNT, **options)
    assert [code for code, _ in ended] == [0, 0], ended
    told = [line.split()[1:] for _, said in ended for line in said.splitlines() if line.startswith("held")]
    held = {rank: tuple(map(int, counts)) for rank, *counts in told}
    whole = sum(tensor.numel() for tensor in read_weights(tmp_path / "run").values())
    expected = (0, whole // 2, 0, whole // 2, 0) if stage == 3 else (0, whole // 2, whole, 0, whole)
    assert held == {"0": expected, "1": expected}


@pytest.mark.parametrize("options", [{"weights": "all"}, {"lora_rank": 3, "weights": "all"}])
def test_a_run_goes_on_in_another_stage_and_without_deepspeed(options: dict[str, Any], tmp_path: Path) -> None:
    """Weights, moments and their count go from one process through stages 1 and 3 and back."""
    out = tmp_path / "run"
    given = options | {"teacher": "self+answer", "self_teacher": "ema", "ema_decay": 0.5, "save_steps": 1}
    run_short(out, **OPTIONS | given | {"steps": 2})
    for steps, stage in ((3, 1), (4, 3)):
        ended = run_two(out, launch=launched(tmp_path, stage), resume=True, **given | {"steps": steps})
        assert [code for code, _ in ended] == [0, 0], ended
        assert last_checkpoint(out).step == steps
    run_short(out, resume=True, **OPTIONS | given | {"steps": 5})
    run_short(tmp_path / "straight", **OPTIONS | given | {"steps": 5})
    assert_close(out, tmp_path / "straight", tolerance=TOLERANCE)
    mine, theirs = last_checkpoint(out).tensors, last_checkpoint(tmp_path / "straight").tensors
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-2, atol=TOLERANCE)


SPOIL = """
import hydrometer.training.zero as zero
calls, real, back = [], loop.accumulate, zero.ZeroStudent.backward
def counting(*given, **options):
    calls.append(1)
    return real(*given, **options)
def spoilt(held, loss):
    back(held, loss * float("VALUE") if RANK == 1 and len(calls) == 3 else loss)
loop.accumulate, zero.ZeroStudent.backward = counting, spoilt
"""


@pytest.mark.parametrize(("stage", "value"), [(1, "nan"), (2, "inf"), (3, "nan")])
def test_a_gradient_that_is_not_finite_in_one_process_stops_both_before_a_weight_is_changed(
    stage: int, value: str, tmp_path: Path
) -> None:
    patch = SPOIL.replace("VALUE", value)
    ended = run_two(tmp_path / "two", launch=launched(tmp_path, stage), patch=patch, save_steps=100)
    assert [code for code, _ in ended] == [2, 2] and all("Step 3: the gradient's norm" in said for _, said in ended), (
        ended
    )
    run_short(tmp_path / "one", **OPTIONS | {"steps": 2})
    mine, theirs = read_weights(tmp_path / "two"), read_weights(tmp_path / "one")
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0.0, atol=TOLERANCE)
    assert last_checkpoint(tmp_path / "two").step == 2


def launch(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command of the documentation."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0"]
    command += ["--use_deepspeed", "--zero_stage", "2", *options, "-m", "hydrometer", "train", "--out", str(out)]
    command += ["--steps", "1", "--prompts-per-step", "2", "--max-response-tokens", "8", "--eval-questions", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, "--no-check"], capture_output=True, text=True, timeout=240, env=environment)


def test_the_documented_command_trains(tmp_path: Path) -> None:
    ended = launch(tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert read_json(tmp_path / "run" / "run.json")["status"] == "done"
    assert "deprecated" not in ended.stderr
    assert last_checkpoint(tmp_path / "run").step == 1


def test_what_this_loop_does_not_do_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    ended = launch(tmp_path / "run", "--offload_optimizer_device", "cpu")
    assert ended.returncode != 0 and "launch without --offload_optimizer_device" in ended.stderr + ended.stdout
    assert not (tmp_path / "run" / "run.json").exists()
