"""A small training run's folder with curves, one alarm and evaluations, made without the code that trains."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from hydrometer.artifacts import build_table, write_json, write_table

STEPS = 40


def write_training(folder: Path, *, seed: int = 0, steps: int = STEPS, ended: bool = True) -> Path:
    """Write the folder; an odd seed gets an alarm, a run that has not ended has no summary and a torn last line."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = [json.dumps(_step(step, rng)) for step in range(1, steps + 1)]
    torn = "" if ended else '{"step": 99, "accu'
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + torn, encoding="utf-8")
    alarm = {
        "name": "repetition",
        "step": 20,
        "value": 0.4,
        "threshold": 0.14,
        "metrics": ["accuracy"],
        "mechanism": "It loops.",
        "cure": "Stop.",
    }
    (folder / "alarms.jsonl").write_text(json.dumps(alarm) + "\n" if seed % 2 else "", encoding="utf-8")
    status = "done" if ended else "running"
    write_json(folder / "run.json", {"schema_version": 1, "kind": "training", "status": status, **_identity()})
    write_table(folder / "evaluation.parquet", build_table("evaluation", _evaluations(rng, steps)))
    if ended:
        write_json(folder / "summary.json", _summary())
    return folder


def _identity() -> dict[str, Any]:
    config = {"student": "bundled:student", "steps": STEPS, "learning_rate": 0.001}
    return {"config": config, "task": "bundled:chain", "teachers": {"expert": {}}, "objectives": {"reverse_kl": 1.0}}


def _step(step: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "step": step,
        "wall_s": 1.5 * step,
        "tokens": 2000,
        "accuracy": min(1.0, 0.4 + 0.01 * step),
        "reverse_kl": 0.5 * math.exp(-step / 20) + 0.01 * float(rng.random()),
        "loss": 1.0 / step,
        "gap_recovery": None,
        "reverse_kl_bin_0": 0.3,
        "new_metric": float(step),
    }


def _evaluations(rng: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    rows = []
    for step, chance in ((0, 0.4), (steps // 2, 0.6), (steps, 0.8)):
        for question in range(12):
            row = {
                "step": step,
                "model": "student",
                "question_id": f"q{question}",
                "sample": 0,
                "tokens": 30,
                "text": "",
            }
            right = bool(rng.random() < chance)
            marks = dict.fromkeys(("correct", "correct_strict", "correct_relaxed"), right)
            rows.append(row | marks | {"truncated": False, "parsed": True})
    return rows


def _estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n_questions": 12, "reason": None}


def _summary() -> dict[str, Any]:
    found = {
        when: {"accuracy": _estimate(value), "pass_at": {"1": _estimate(value), "4": _estimate(value + 0.1)}}
        for when, value in (("before", 0.4), ("after", 0.8))
    }
    names = {"teachers": ["expert"], "objectives": {"reverse_kl": 1.0}, "steps": STEPS}
    return {**names, **found, "comparison": {"difference": _estimate(0.4)}}
