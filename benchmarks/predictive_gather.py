"""Gathers the study's small tables from its runs.

    answers.parquet   cell, seed, test question -> share of right answers before and after training
    tokens.parquet    the same of the runs on chosen tokens
    aggregates.parquet, learnable.parquet    scores and values of the diagnoses of aggregates
    scores.parquet    block, arm, score, who continued -> value and interval (all objectives, trained or not)
    splits.parquet    block, arm, who continued, metric -> value on correct and on incorrect paths
    values.parquet    block, teacher -> what it is better by, and how much of that was measured
    costs.csv         CPU seconds by kind of work

`continuation` is `student` or `teacher` (the arm's own), null for scores that no continuation enters.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.predictive_cells import BLOCKS, CELLS, OBJECTIVES, SEEDS
from benchmarks.predictive_tokens import token_answers
from benchmarks.study_arms import DONE
from benchmarks.study_results import question_shares, read_costs
from hydrometer.artifacts import read_json, read_table
from hydrometer.types import NO_TEACHER, STUDENT

TEACHER = "teacher"
SPLIT_METRICS = ("mean_cosine", "pooled_cosine", "mean_advantage", "mean_signal")
KINDS = "^(diagnosis|before|after|advice|tokens|aggregates)"


def gather(out: Path, results: Path) -> None:
    """Replace the tables in `results` by what the runs in `out` say."""
    results.mkdir(parents=True, exist_ok=True)
    blocks = [name for name in BLOCKS if (out / f"diagnosis-{name}" / DONE).exists()]
    means = [name for name in BLOCKS if (out / f"aggregates-{name}" / DONE).exists()]
    rows = {
        "answers": list(_answers(out)),
        "scores": [row for name in blocks for row in _scores(out / f"diagnosis-{name}", name)],
        "splits": [row for name in blocks for row in _splits(out, name)],
        "values": [row for name in blocks for row in _values(out / f"diagnosis-{name}", name)],
        "aggregates": [row for name in means for row in _scores(out / f"aggregates-{name}", name)],
        "learnable": [row for name in means for row in _values(out / f"aggregates-{name}", name)],
        "tokens": list(token_answers(out)),
    }
    for name, found in rows.items():
        if found:
            pl.DataFrame(found, infer_schema_length=None).write_parquet(results / f"{name}.parquet")
    kind = pl.col("what").str.extract(KINDS).fill_null("training").alias("kind")
    spent = pl.DataFrame(read_costs(out)).group_by(kind).agg(pl.len().alias("runs"), pl.col("cpu_s").sum().round(1))
    spent.sort("kind").write_csv(results / "costs.csv")


def _answers(out: Path) -> Iterator[dict[str, Any]]:
    for cell in CELLS:
        before = out / f"before-{cell.block}"
        for seed in SEEDS:
            after = out / f"after-{cell.name}-{seed}"
            if (after / DONE).exists() and (before / DONE).exists():
                shares = [question_shares(read_table(folder / "evaluation.parquet")) for folder in (before, after)]
                for question, (start, end) in enumerate(zip(*shares, strict=True)):
                    yield {**cell._asdict(), "seed": seed, "question": question, "before": start, "after": end}


def _who(continuation: str | None) -> str | None:
    return continuation if continuation in (None, STUDENT) else TEACHER


def _scores(folder: Path, block: str) -> Iterator[dict[str, Any]]:
    named = {spec: name for name, spec in OBJECTIVES.items()}
    for row in read_table(folder / "scores.parquet").iter_rows(named=True):
        if row["teacher"] != NO_TEACHER:
            place = {"objective": named[row["objective"]], "continuation": _who(row["continuation"])}
            yield {"block": block} | row | place


def _splits(out: Path, block: str) -> Iterator[dict[str, Any]]:
    named = {spec: name for name, spec in OBJECTIVES.items()}
    for arm in read_json(out / f"diagnosis-{block}" / DONE)["arms"]:
        if arm["teacher"] == NO_TEACHER or arm["reference"]:
            continue
        place = {"block": block, "teacher": arm["teacher"], "objective": named[arm["objective"]]}
        for metric in SPLIT_METRICS:
            values = {split: arm["scores"][split][metric]["value"] for split in ("correct", "incorrect")}
            yield place | {"continuation": _who(arm["continuation"]), "metric": metric} | values


def _values(folder: Path, block: str) -> Iterator[dict[str, Any]]:
    for entry in read_json(folder / DONE)["values"]:
        row = {"block": block, "teacher": entry["teacher"]}
        for name in ("teacher_value", "student_value", "difference", "measured"):
            found = entry[name]
            row |= {name: found["value"], f"{name}_low": found["interval"][0], f"{name}_high": found["interval"][1]}
        yield row | {"holds": entry["holds"]}
