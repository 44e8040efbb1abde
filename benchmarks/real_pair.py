"""One real student with three contexts: what a diagnosis says of them, and what training then brings.

    python -m benchmarks.real_pair --model FOLDER --out runs/pair    # SmolLM2-135M; goes on where it stopped

Questions: "What is A + B?" for A, B from 1 to 15; both orders of two numbers stay in one split (half train, a sixth
diagnose, a third test). Right is a response whose last number is the sum, within 20 tokens, at temperature 0.5. The
teachers are the student with the sum written out (`solution`), with a rule on length (`rule`), and with the solution's
frame around filler (`empty`). In OUT: `diagnosis` (all three, both continuations), `before` (the untrained student on
the test questions), and for each arm `NAME` (a LoRA adapter) and `after-NAME`; `costs.jsonl` has the CPU seconds.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import polars as pl

from benchmarks.study_arms import DONE, run_once
from benchmarks.study_results import read_costs
from benchmarks.study_tables import markdown_table
from hydrometer.artifacts import read_json, read_table
from hydrometer.diagnosis.run import diagnose
from hydrometer.evaluation.comparison import compare
from hydrometer.evaluation.run import evaluate
from hydrometer.evaluation.wording import points
from hydrometer.sampling.seeding import rollout_seed
from hydrometer.training.run import train
from hydrometer.types import STUDENT

RULE = "Answer in one short sentence."
TEACHERS: Mapping[str, str] = {"rule": f"self+rule:{RULE}", "solution": "self+solution", "empty": "self+empty:solution"}
LARGEST = 15
COMMON: Mapping[str, Any] = {"grading": "relaxed", "temperature": 0.5, "max_response_tokens": 20, "threads": 1}
TRAINING: Mapping[str, Any] = {
    "prompts_per_step": 12,
    "num_generations": 4,
    "lora_rank": 16,
    "learning_rate": 3e-4,
    "eval_questions": 0,
    "alarms": "warn",
}
DIAGNOSIS: Mapping[str, Any] = {
    "questions": 12,
    "rollouts": 10,
    "nodes_per_path": 3,
    "visits": 4,
    "min_visits": 4,
    "context_rollouts": 8,
    "continuation": "both",
}
EXAM: Mapping[str, Any] = {"questions": 78, "samples": 4}
"""Of the trained students, and of the untrained one with twice the samples."""
SCORES = ("pooled_cosine", "path_advantage", "mean_signal")
ALONE = ("accuracy_gain", "reverse_kl", "teacher_overlap_mass")
"""Scores that no continuation enters."""


def make_questions() -> Iterator[dict[str, str]]:
    """Rows of a `jsonl:` task."""
    for first in range(1, LARGEST + 1):
        for second in range(1, LARGEST + 1):
            pair = f"{min(first, second)} + {max(first, second)}"
            split = ("train", "train", "train", "test", "test", "diagnose")[rollout_seed(0, pair, 0) % 6]
            asked, answer = f"{first} + {second}", str(first + second)
            row = {"id": asked, "prompt": f"What is {asked}?", "answer": answer, "solution": f"{asked} = {answer}"}
            yield row | {"answer_type": "integer", "split": split}


def run_pair(model: str, out: Path, steps: int) -> None:
    """The diagnosis, the untrained student, then arm by arm, each unless it is there."""
    out.mkdir(parents=True, exist_ok=True)
    questions = out / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in make_questions()), encoding="utf-8")
    common = {**COMMON, "task": f"jsonl:{questions}"}
    specs = {name: f"{name}={spec}" for name, spec in TEACHERS.items()}
    folder = out / "diagnosis"
    asked = {"student": model, "teacher": list(specs.values()), "objective": ["reverse_kl"], **DIAGNOSIS}
    run_once(folder, lambda: diagnose(out=folder, resume=folder.exists(), **asked, **common))
    _examine(out / "before", model, {**common, "samples": 2 * EXAM["samples"]})
    for name, spec in specs.items():
        print(name, flush=True)
        _train(out / name, {"student": model, "teacher": [spec], "steps": steps, **TRAINING, **common})
        _examine(out / f"after-{name}", f"{model}#adapter={out / name / 'adapter'}", common)


def _train(folder: Path, options: Mapping[str, Any]) -> None:
    run_once(folder, lambda: train(out=folder, resume=folder.exists(), **options))


def _examine(folder: Path, model: str, common: Mapping[str, Any]) -> None:
    run_once(folder, lambda: evaluate(model=model, out=folder, resume=folder.exists(), **{**EXAM, **common}))


def describe_pair(out: Path) -> str:
    """One row per arm: its scores with 95 % intervals over questions, and its gain, paired by question."""
    scores = read_table(out / "diagnosis" / "scores.parquet")
    asked = [(score, who) for score in SCORES for who in ("teacher", STUDENT)] + [(score, None) for score in ALONE]
    head = ["teacher", "gain", *(f"{score}, {who}" if who else score for score, who in asked)]
    rows = []
    for name in TEACHERS:
        mine = scores.filter(teacher=name, objective="reverse_kl")
        rows.append([f"`{name}`", _gain(out, name), *(_score(mine, name, score, who) for score, who in asked)])
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    return markdown_table(columns[0], columns[1:])


def _gain(out: Path, name: str) -> str:
    after = out / f"after-{name}"
    if not (after / DONE).exists():
        return "not trained"
    answers = [read_table(folder / "evaluation.parquet") for folder in (after, out / "before")]
    return points(compare(*answers).difference.describe())


def _score(mine: pl.DataFrame, name: str, score: str, who: str | None) -> str:
    continued = {None: None, STUDENT: STUDENT}.get(who, name)
    row = mine.filter(pl.col("score") == score, pl.col("continuation").eq_missing(pl.lit(continued))).to_dicts()[0]
    if row["value"] is None:
        return "null"
    interval = "" if row["low"] is None else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"{row['value']:+.2f}{interval}"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    run_pair(options.model, options.out, options.steps)
    print(describe_pair(options.out))
    print("untrained, on the test questions:", read_json(options.out / "before" / DONE)["accuracy"])
    print("CPU seconds:", {line["what"]: line["cpu_s"] for line in read_costs(options.out)})


if __name__ == "__main__":
    main()
