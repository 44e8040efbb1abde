"""Outcome-reward training of one member from another: `hydrometer.train` with the verifier of the task and no teacher.

Dr. GRPO (docs/objectives.md) on prompts of the train split, with the settings of the first stage of the recipe
`rlvr_teacher`; no other split is looked at, so the member is not chosen by what it is measured on.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import Qwen3ForCausalLM

import hydrometer
from hydrometer.artifacts import read_json


@dataclass(frozen=True, slots=True)
class RewardPlan:
    """How one member is made from another; what is not said here is a default of `hydrometer.train`."""

    start: str
    """The member whose weights it begins with."""
    steps: int
    num_generations: int
    seed: int
    objective: str = "dr_grpo"
    task: str = "bundled:chain"


class Rewarded(NamedTuple):
    """A finished run: the model in float32, and what it took."""

    model: Qwen3ForCausalLM
    record: dict[str, Any]


def train_by_reward(plan: RewardPlan, start: Path, folder: Path) -> Rewarded:
    """Train the checkpoint in `start`; the run is kept in `folder`, which has to be new or empty."""
    began = time.process_time()
    hydrometer.train(
        out=folder,
        student=str(start),
        objective=plan.objective,
        task=plan.task,
        steps=plan.steps,
        num_generations=plan.num_generations,
        seed=plan.seed,
        eval_questions=0,
    )
    run = read_json(folder / "run.json")
    record = {
        "step": run["steps_done"],
        "rollouts": run["cost"]["rollouts"],
        "tokens": run["cost"]["generated_tokens"],
        "cpu_s": round(time.process_time() - began),
        "start_fingerprint": run["models"]["student"]["fingerprint"],
    }
    return Rewarded(Qwen3ForCausalLM.from_pretrained(folder / "model", dtype=torch.float32), record)
