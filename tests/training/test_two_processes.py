"""Two processes on a CPU (gloo) train as one does, whole or split (FSDP 2); what stops one stops both."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import read_weights, run_short
from two_runs import CASES, CASES_SPLIT, FAIL_AT_STEP_3, OPTIONS, assert_close, run_two

from hydrometer.artifacts import read_json, read_table
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
LAUNCH: dict[bool, dict[str, str]] = {False: {}, True: FSDP}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "splits"),
    [
        *(pytest.param(options, False, id=name) for name, options in CASES.items()),
        *(pytest.param(options, True, id=f"split, {name}") for name, options in CASES_SPLIT.items()),
    ],
)
def test_two_processes_give_what_one_gives(options: dict[str, Any], splits: bool, tmp_path: Path) -> None:
    ended = run_two(tmp_path / "two", launch=LAUNCH[splits], **options)
    assert [code for code, _ in ended] == [0, 0], ended
    run_short(tmp_path / "one", **OPTIONS | options)
    assert_close(tmp_path / "two", tmp_path / "one")
    told = [read_json(tmp_path / name / "run.json")["cost"] for name in ("one", "two")]
    assert told[0]["rollouts"] == told[1]["rollouts"]
    tables = [read_table(tmp_path / name / "evaluation.parquet") for name in ("one", "two")]
    assert tables[0].select("step", "question_id").equals(tables[1].select("step", "question_id"))


COUNT = """
from torch.distributed.tensor import DTensor
real = loop.Trainer.update
def counting(trainer, *given):
    found = real(trainer, *given)
    masters = trainer.optimiser.masters
    held = [state[name] for state in trainer.optimiser.adam.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert all(isinstance(one, DTensor) for one in [*masters, *held])
    print("held", RANK, sum(one.to_local().numel() for one in masters), sum(one.to_local().numel() for one in held))
    assert all(p.grad is None for p in masters)
    assert not sum(p.numel() for p in trainer.shop.student.network.parameters())
    return found
loop.Trainer.update = counting
"""


@pytest.mark.slow
def test_each_of_two_processes_keeps_half_of_weights_and_moments(tmp_path: Path) -> None:
    ended = run_two(tmp_path / "run", launch=FSDP, patch=COUNT, steps=1, weights="all", eval_questions=0)
    assert [code for code, _ in ended] == [0, 0], ended
    told = [line.split()[1:] for _, said in ended for line in said.splitlines() if line.startswith("held")]
    held = {rank: (int(weights), int(moments)) for rank, weights, moments in told}
    whole = sum(tensor.numel() for tensor in read_weights(tmp_path / "run").values())
    assert held == {"0": (whole // 2, whole), "1": (whole // 2, whole)}


@pytest.mark.slow
@pytest.mark.parametrize("splits", [False, True])
def test_two_processes_resume_with_the_same_alarms(splits: bool, tmp_path: Path) -> None:
    """Both know the history, so that an alarm that stops the run stops both."""
    stop = (
        "from hydrometer.dynamics import Alarm\n"
        "loop.check_alarms = lambda history: [Alarm('planted', len(history), 1.0, 0.5, (), 'm', 'c')]"
        " if len(history) == 3 else []"
    )
    assert [code for code, _ in run_two(tmp_path / "run", launch=LAUNCH[splits], steps=2)] == [0, 0]
    ended = run_two(tmp_path / "run", launch=LAUNCH[splits], patch=stop, steps=9, alarms="stop", resume=True)
    assert [code for code, _ in ended] == [0, 0], ended
    assert read_json(tmp_path / "run" / "summary.json")["steps"] == 3


@pytest.mark.slow
def test_a_split_run_that_died_goes_on_from_its_last_checkpoint_in_one_process_or_two(tmp_path: Path) -> None:
    """A process that is left alone cannot put the student together, and must not wait for the others to do it."""
    failing = FAIL_AT_STEP_3.replace("PLACE", "loop.accumulate").replace("RANKS", "[1]")
    ended = run_two(tmp_path / "two", launch=FSDP, patch=failing.replace("FAILURE", "MemoryError()"), timeout=100)
    assert all(code != 0 for code, _ in ended) and "Out of memory" in ended[1][1], ended
    found = find_checkpoint(tmp_path / "two")
    assert found is not None and read_checkpoint(found).step == 2
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    run_short(tmp_path / "straight", **OPTIONS)
    run_short(tmp_path / "one", resume=True, **OPTIONS)
    assert_close(tmp_path / "one", tmp_path / "straight")
    ended = run_two(tmp_path / "two", launch=FSDP, resume=True)
    assert [code for code, _ in ended] == [0, 0], ended
    assert_close(tmp_path / "two", tmp_path / "straight")


@pytest.mark.slow
def test_a_split_run_whose_gradient_is_not_finite_keeps_the_weights_before_it(tmp_path: Path) -> None:
    """All processes come to it together, and so they can put the student together once more."""
    failing = FAIL_AT_STEP_3.replace("PLACE", "loop.Optimiser.step").replace("RANKS", "[0, 1]")
    failing = failing.replace("FAILURE", "FloatingPointError('planted')")
    ended = run_two(tmp_path / "two", launch=FSDP, patch=failing, save_steps=100)
    assert [code for code, _ in ended] == [2, 2] and "Step 3: planted" in ended[0][1], ended
    run_short(tmp_path / "one", **OPTIONS | {"steps": 2})
    mine, theirs = read_weights(tmp_path / "two"), read_weights(tmp_path / "one")
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0.0, atol=1e-5)
    found = find_checkpoint(tmp_path / "two")
    assert found is not None and read_checkpoint(found).step == 2


FAILURES = {
    "the first cannot use the folder": ("", "is not empty"),
    "the second runs out of memory": (
        "def fail(*a, **o): raise MemoryError()\nif RANK == 1: loop.accumulate = fail",
        "Out of memory",
    ),
    "the first runs out of memory": (
        "def fail(*a, **o): raise MemoryError()\nif RANK == 0: loop.accumulate = fail",
        "Out of memory",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_what_stops_one_process_does_not_leave_the_other_waiting(name: str, tmp_path: Path) -> None:
    patch, words = FAILURES[name]
    if not patch:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "todo.txt").write_text("not ours")
    ended = run_two(tmp_path / "run", patch=patch, timeout=60)
    assert all(code != 0 for code, _ in ended)
    assert any(words in said for _, said in ended), ended
