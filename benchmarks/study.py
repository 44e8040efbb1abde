"""Training on the bundled family: what the papers say happens, looked for with paired seeds and questions.

    python -m benchmarks.study --out runs/study              # every arm and seed; goes on where it stopped
    python -m benchmarks.study --out runs/study --only i iii # some parts
    python -m benchmarks.study --out runs/study --tables     # the tables and figures from what is there

Each run is `hydrometer train` into OUT/ARM-SEED with 50 steps of 64 rollouts, under a minute on a quiet core. Arms that
several parts need are run once. Differences are paired by question and seed (`evaluation.comparison.pool_evaluations`).
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import polars as pl

from hydrometer.artifacts import read_json, read_table
from hydrometer.evaluation.comparison import pool_evaluations
from hydrometer.evaluation.summary import accuracy
from hydrometer.recipes.collecting import ANSWERS, collect_answers
from hydrometer.runs.progress import Silent
from hydrometer.training.run import train

COMMON = {"steps": 50, "eval_questions": 60, "eval_samples": 4, "alarms": "warn"}
EXPERT = {"teacher": ["expert=bundled:expert"]}
OTHER = {"teacher": ["other-pattern=bundled:other-pattern"]}
IMITATE = {"objective": ["sft"], "prompts_per_step": 64}
_TOPK = "topk_reverse_kl:k={k},form={form}"


def topk(k: int, form: str, **more: str) -> dict[str, Any]:
    """Options of an arm that distils on the top-k."""
    extra = "".join(f",{name}={value}" for name, value in more.items())
    return {**EXPERT, "objective": [_TOPK.format(k=k, form=form) + extra]}


ARMS: Mapping[str, Mapping[str, Any]] = {
    "full": EXPERT,
    "other": OTHER,
    "imitated": {**IMITATE, "steps": 60},
    "other_after_cold_start": {**OTHER, "student": "$imitated/model"},
    "unnormalised_2": topk(2, "unnormalised"),
    "unnormalised_5": topk(5, "unnormalised"),
    "unnormalised_20": topk(20, "unnormalised"),
    "stop_gradient_5": topk(5, "stop_gradient"),
    "renormalised_5": topk(5, "renormalised"),
    "tail_bin_5": topk(5, "tail_bin"),
    "stop_gradient_1": topk(1, "stop_gradient"),
    "k1_loss": {**EXPERT, "objective": ["k1_loss"]},
    "early": {"teacher": ["early=bundled:early"]},
    "rule": {"teacher": ["rule=self+rule:Check every step."]},
    "answer": {"teacher": ["answer=self+answer"]},
    "student_support": topk(4, "stop_gradient"),
    "overlap": topk(4, "stop_gradient", support="intersection"),
    "non_overlap": topk(4, "stop_gradient", support="symmetric_difference"),
    "sampled_token": {**EXPERT, "objective": ["sampled_token"]},
    "topk_16": topk(16, "stop_gradient"),
    "dr_grpo": {"objective": ["dr_grpo"]},
    **{f"length_{n}": {**EXPERT, "max_response_tokens": n} for n in (16, 32, 64, 192)},
}
"""Options of every arm; `$arm` is the folder of another arm with the same seed."""


class Section(NamedTuple):
    """One part of the study."""

    title: str
    arms: tuple[str, ...]
    seeds: int
    against: str
    """The arm that the others are compared with."""


PARTS: Mapping[str, Section] = {
    "i": Section("Distilling from a larger model of the same pattern", ("full",), 3, "full"),
    "ii": Section(
        "A teacher that writes another way, and a cold start", ("other", "other_after_cold_start"), 3, "other"
    ),
    "iii": Section(
        "Truncated losses",
        (
            *("stop_gradient_5", "unnormalised_5", "renormalised_5", "tail_bin_5"),
            *("unnormalised_2", "unnormalised_20", "stop_gradient_1", "k1_loss"),
        ),
        5,
        "stop_gradient_5",
    ),
    "iv": Section("A weaker teacher from the student's own past", ("full", "early"), 3, "full"),
    "v": Section("A shared rule against every question's answer", ("rule", "answer"), 3, "rule"),
    "vi": Section("Support", ("student_support", "overlap", "non_overlap"), 3, "student_support"),
    "viii": Section("How much of the distribution", ("full", "sampled_token", "topk_16"), 5, "full"),
    "ix": Section("Outcome reward at equal samples", ("full", "dr_grpo"), 3, "full"),
    "x": Section("Limit of the response", ("full", *(f"length_{n}" for n in (16, 32, 64, 192))), 3, "full"),
}
SHOWN = ("student_topk_mass", "student_entropy", "repeat_ratio", "overlap_ratio", "entropy_gap", "response_tokens_mean")


def run_arm(out: Path, arm: str, seed: int) -> Path:
    """Train one arm with one seed, unless that is done; its folder."""
    folder = out / f"{arm}-{seed}"
    if (folder / "summary.json").exists():
        return folder
    options = {**COMMON, **ARMS[arm], "seed": seed}
    if arm == "imitated":
        options["sft_from"] = str(_answers(out))
    for name in ARMS:
        if str(options.get("student", "")).startswith(f"${name}/"):
            options["student"] = str(run_arm(out, name, seed)) + str(options["student"]).removeprefix(f"${name}")
    train(out=folder, resume=folder.exists(), **options)
    return folder


def _answers(out: Path) -> Path:
    folder = out / "answers"
    if not (folder / ANSWERS).exists():
        options = {"model": "bundled:other-pattern", "questions": 1000, "temperature": 0.7}
        collect_answers(folder, options, resume=folder.exists(), progress=Silent())
    return folder / ANSWERS


def describe(out: Path, name: str) -> str:
    """One part as a table in Markdown, over the seeds that are there."""
    section = PARTS[name]
    lines = [
        f"### ({name}) {section.title}\n",
        f"| arm | seeds | before | after | minus {section.against} | {' | '.join(SHOWN)} |",
        "|---" * (5 + len(SHOWN)) + "|",
    ]
    for arm in section.arms:
        seeds = [seed for seed in range(section.seeds) if (out / f"{arm}-{seed}" / "summary.json").exists()]
        if seeds:
            lines.append(_row(out, arm, section.against, seeds))
    return "\n".join(lines)


def _row(out: Path, arm: str, against: str, seeds: Sequence[int]) -> str:
    tables = {seed: read_table(out / f"{arm}-{seed}" / "evaluation.parquet") for seed in seeds}
    last = [_at_end(table) for table in tables.values()]
    before = pl.concat([table.filter(pl.col("step") == 0) for table in tables.values()])
    shared = [seed for seed in seeds if (out / f"{against}-{seed}" / "summary.json").exists()]
    difference = "" if arm == against or len(shared) < 2 else _difference(out, tables, against, shared)
    metrics = [read_json(out / f"{arm}-{seed}" / "summary.json")["last_metrics"] for seed in seeds]
    cells = [_mean([row.get(name) for row in metrics]) for name in SHOWN]
    after = accuracy(pl.concat(last)).value
    start = accuracy(before).value
    return f"| {arm} | {len(seeds)} | {_percent(start)} | {_percent(after)} | {difference} | {' | '.join(cells)} |"


def _difference(out: Path, tables: Mapping[int, pl.DataFrame], against: str, seeds: Sequence[int]) -> str:
    pairs = [
        (_at_end(tables[seed]), _at_end(read_table(out / f"{against}-{seed}" / "evaluation.parquet"))) for seed in seeds
    ]
    both = pool_evaluations(pairs).both
    assert both.value is not None
    interval = "" if both.low is None else f" [{100 * both.low:+.1f}, {100 * (both.high or 0.0):+.1f}]"
    return f"{100 * both.value:+.1f}{interval}"


def _at_end(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("step") == pl.col("step").max())


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "none"


def main() -> None:
    """Run the study, or part of it, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, help="at most so many seeds")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    options = parser.parse_args()
    for name in options.only:
        section = PARTS[name]
        for seed in range(0 if options.tables else min(section.seeds, options.seeds or section.seeds)):
            for arm in section.arms:
                print(f"({name}) {arm}, seed {seed}", flush=True)
                run_arm(options.out, arm, seed)
    for name in options.only:
        print(describe(options.out, name) + "\n")


if __name__ == "__main__":
    main()
