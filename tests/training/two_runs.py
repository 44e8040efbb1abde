"""Runs of two processes on this machine's CPU (gloo), and how near they have to come to one process."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import read_metrics, read_weights

OPTIONS: dict[str, Any] = {"steps": 3, "prompts_per_step": 5, "weights": "kl_above:0.3", "save_steps": 2}
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from hydrometer.errors import UserError
from short_runs import run_short
import hydrometer.training.loop as loop
RANK = int(__import__("os").environ["RANK"])
PATCH
try:
    run_short(OUT, **OPTIONS)
except UserError as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""


def run_two(
    out: Path, *, patch: str = "", timeout: float = 240, launch: Mapping[str, str] | None = None, **options: Any
) -> list[tuple[int, str]]:
    """Exit code and all words of both processes; `launch` is what `accelerate launch` would set."""
    script = SCRIPT.replace("OUT", f"__import__('pathlib').Path({str(out)!r})").replace("PATCH", patch)
    script = script.replace("OPTIONS", repr(OPTIONS | options))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
            | dict(launch or {}),
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, words) for process, words in zip(processes, said, strict=True)]


def assert_close(found: Path, expected: Path, *, tolerance: float = 1e-5) -> None:
    """Weights within 1e-5, say; every metric within 1e-4: sums over processes are added in another order."""
    mine, theirs = read_weights(found), read_weights(expected)
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0.0, atol=tolerance)
    for row, plain in zip(read_metrics(found), read_metrics(expected), strict=True):
        assert row.keys() == plain.keys()
        for name, value in plain.items():
            assert row[name] == (value if value is None else pytest.approx(value, abs=1e-4, rel=1e-4)), name


CASES: dict[str, dict[str, Any]] = {
    "weights that need a look ahead": {},
    "all kinds of terms": {"objective": ["reverse_kl", "0.5*dr_grpo", "0.1*sft"], "weights": "all"},
    "lora and itself": {"teacher": ["self+correct_demo", "expert=bundled:expert"], "lora_rank": 2, "weights": "all"},
    "fewer questions than processes": {"prompts_per_step": 1, "weights": "all"},
}
CASES_SPLIT: dict[str, dict[str, Any]] = CASES | {
    "its average": {"teacher": "self+answer", "self_teacher": "ema", "ema_decay": 0.5},
    "itself, recomputing": {
        "teacher": "self+answer",
        "self_teacher": "live",
        "gradient_checkpointing": True,
        "micro_batch": 2,
        "weights": "all",
    },
}
FAIL_AT_STEP_3 = """
calls, real = [], PLACE
def failing(*given, **options):
    calls.append(1)
    if RANK in RANKS and len(calls) == 3:
        raise FAILURE
    return real(*given, **options)
PLACE = failing
"""
