"""Memory of each of several processes that train one student on this machine's CPU: whole in each, or split.

    python -m benchmarks.processes [--student FOLDER] [--processes 2] [--prompts 4] [--tokens 32] [--settings whole]

Settings are whole, fsdp and, where DeepSpeed is installed, zero1, zero2 and zero3.

The student is float32 with full weights and AdamW and learns from outcomes, so that there is no teacher. A figure is
resident memory above that of the process before it has loaded the student: between two steps, and at most while it
samples or makes a step. Every process makes three steps, of which the last is measured.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment

from benchmarks.memory import peak_of, resident_bytes
from benchmarks.training_step import FixedPrompts
from hydrometer.training.config import TrainConfig
from hydrometer.training.loop import Trainer
from hydrometer.training.setup import build_workshop

SETTINGS: dict[str, dict[str, str]] = {
    "whole": {},
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    **{
        f"zero{stage}": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}
        for stage in (1, 2, 3)
        if find_spec("deepspeed")
    },
}
FIGURES = ("between steps", "sampling", "step")
STEPS = 3


def main() -> None:
    """Print the table, or be one of the processes that it is of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    if "RANK" in os.environ:
        print(json.dumps(measure(options)), flush=True)
        return
    print(f"{'':8}{'weights MiB':>12}" + "".join(f"{name + ' MiB':>20}" for name in FIGURES) + f"{'s a step':>12}")
    for name in options.settings:
        found = run_processes(name, options.processes)
        worst = {figure: max(one[figure] for one in found) for figure in found[0]}
        cells = "".join(f"{worst[figure] / 2**20:20.0f}" for figure in FIGURES)
        print(f"{name:8}{worst['weights'] / 2**20:12.0f}{cells}{worst['seconds']:12.1f}", flush=True)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Bytes and seconds of this process."""
    torch.set_num_threads(1)
    with patch_environment(accelerate_use_deepspeed="false"):
        accelerator = Accelerator(cpu=True, mixed_precision="no")
    before = resident_bytes("VmRSS")
    config = TrainConfig(
        student=options.student,
        objective=("dr_grpo",),
        prompts_per_step=options.prompts,
        num_generations=2,
        max_response_tokens=options.tokens,
        learning_rate=2e-6,
        dtype="float32",
        eval_questions=0,
    )
    shop = build_workshop(config, task=FixedPrompts(options.prompts))
    found: dict[str, float] = {"weights": sum(p.numel() * p.element_size() for p in shop.student.network.parameters())}
    trainer = Trainer(shop, accelerator)
    for step in range(STEPS):
        found["between steps"] = resident_bytes("VmRSS") - before
        began = time.monotonic()
        batch: list[Any] = []

        def sample(step: int = step, batch: list[Any] = batch) -> None:
            with trainer.held.whole():
                batch.append(trainer.prepare(step))

        found["sampling"] = peak_of(sample) - before
        found["step"] = peak_of(lambda: trainer.update(trainer.study(batch[0], step), step)) - before  # noqa: B023
        found["seconds"] = time.monotonic() - began
    return found


def run_processes(setting: str, processes: int) -> list[dict[str, float]]:
    """What each process of a setting says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | SETTINGS[setting] | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true"}
    common |= {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1048576"}  # what is freed goes back at once
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", *sys.argv[1:]],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"a process of '{setting}' failed")
    return [json.loads(words.splitlines()[-1]) for words in said]


if __name__ == "__main__":
    main()
