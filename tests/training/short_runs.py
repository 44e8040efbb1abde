"""Training runs of seconds on the bundled family, and what two of them have to share to be the same run."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from hydrometer.artifacts import read_table
from hydrometer.tasks import load_task
from hydrometer.training.run import Training, train
from hydrometer.types import Grades, Question

SHORT: dict[str, Any] = {
    "steps": 4,
    "prompts_per_step": 3,
    "num_generations": 2,
    "max_response_tokens": 10,
    "eval_questions": 2,
    "eval_samples": 1,
    "save_steps": 2,
}


class FewChains:
    """The bundled task with so few questions that making them takes no time."""

    name = "bundled:chain"

    def questions(self, split: Literal["train", "diagnose", "test"]) -> Sequence[Question]:
        return few_questions(split)

    def verify(self, question: Question, response: str) -> Grades:
        return load_task(self.name).verify(question, response)


@cache
def few_questions(split: Literal["train", "diagnose", "test"]) -> tuple[Question, ...]:
    return tuple(load_task(FewChains.name).questions(split)[:10])


def run_short(out: Path, *, resume: bool = False, **options: Any) -> Training:
    return train(out=out, resume=resume, **SHORT | {"task": FewChains(), "check": False} | options)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what depends on the machine's haste."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("wall_s")
    return rows


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of model/ or adapter/."""
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        if (folder / file).exists():
            return load_file(folder / file)
    raise AssertionError(f"no weights in {folder}")


def assert_same_run(found: Path, expected: Path) -> None:
    """Weights to the last bit, metrics, evaluations."""
    mine, theirs = read_weights(found), read_weights(expected)
    assert mine.keys() == theirs.keys()
    different = [name for name in theirs if not mine[name].equal(theirs[name])]
    assert not different, different
    assert read_metrics(found) == read_metrics(expected)
    tables = [read_table(folder / "evaluation.parquet") for folder in (found, expected)]
    assert tables[0].equals(tables[1])
