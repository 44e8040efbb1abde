"""What the runs of the study left: accuracies per question and seed, metrics per step, and their estimates.

    accuracy, difference     mean over seeds and questions, interval for other seeds and questions (`pool_seeds`)
    gap recovery             R = mean(after - before) / mean(teacher - before),                      arXiv:2604.13016
                             interval from e = (after - before) - R (teacher - before), over mean(teacher - before)

All are of the same test questions.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from benchmarks.study_arms import ARMS, COSTS, DONE, teacher_folder
from hydrometer.artifacts import read_json, read_table
from hydrometer.evaluation.comparison import pool_seeds
from hydrometer.evaluation.statistics import Estimate

LAST_STEPS = 5
"""Steps whose mean is a metric's value at the end."""
UNLIMITED = "full"
"""The arm that stands for the untrained student under the common length limit."""
BySeed = Float[np.ndarray, "seed question"]


def seeds_of(out: Path, name: str) -> list[int]:
    """The seeds of an arm that are there."""
    exam = [f"exam-{name}", UNLIMITED] if ARMS[name].has_exam else []
    return [
        seed
        for seed in range(ARMS[name].seeds)
        if all((out / f"{folder}-{seed}" / DONE).exists() for folder in (name, *exam))
    ]


def after(out: Path, name: str, seeds: Sequence[int]) -> BySeed:
    """Share of correct test responses after training."""
    return _by_seed(out, name, seeds, last=True)


def before(out: Path, name: str, seeds: Sequence[int]) -> BySeed:
    """Share of correct test responses before training; of arms with an exam, under the common length limit too."""
    return _by_seed(out, UNLIMITED if ARMS[name].has_exam else name, seeds, last=False)


def _by_seed(out: Path, name: str, seeds: Sequence[int], *, last: bool) -> BySeed:
    return np.stack([question_shares(_read_evaluation(out, name, seed, last=last)) for seed in seeds])


def _read_evaluation(out: Path, name: str, seed: int, *, last: bool) -> pl.DataFrame:
    if last and ARMS[name].has_exam:
        return read_table(out / f"exam-{name}-{seed}" / "evaluation.parquet")
    step = pl.col("step").max() if last else pl.col("step").min()
    return read_table(out / f"{name}-{seed}" / "evaluation.parquet").filter(pl.col("step") == step)


def question_shares(table: pl.DataFrame) -> Float[np.ndarray, " question"]:
    """Share of correct responses to each question, in the order of their ids."""
    means = table.group_by("question_id").agg(pl.col("correct").cast(pl.Float64).mean())
    return means.sort("question_id")["correct"].to_numpy()


def estimate_accuracy(shares: BySeed) -> Estimate:
    """Mean with its interval, cut off at 0 and 1."""
    found = pool_seeds(shares).both
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))


def teacher_shares(out: Path, name: str) -> Float[np.ndarray, " question"] | None:
    """What the arm's teacher gets right; None where it has none of its own."""
    folder = teacher_folder(out, name)
    if folder is None or not (folder / DONE).exists():
        return None
    return question_shares(read_table(folder / "evaluation.parquet"))


def estimate_recovery(start: BySeed, end: BySeed, teacher: Float[np.ndarray, " question"]) -> Estimate:
    """Share of the gap to the teacher that training closed (of the way down to one that is worse).

    Raises:
        ZeroDivisionError: student and teacher are equally good.
    """
    gaps = teacher - start
    gap = float(gaps.mean())
    recovery = float((end - start).mean()) / gap
    spread = pool_seeds((end - start - recovery * gaps) / gap).both
    if spread.low is None or spread.high is None:
        return spread._replace(value=recovery)
    return spread._replace(value=recovery, low=recovery + spread.low, high=recovery + spread.high)


def read_curve(out: Path, name: str, seed: int, metric: str) -> Float[np.ndarray, " step"]:
    """A metric at every step, NaN where it is not defined."""
    lines = (out / f"{name}-{seed}" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line).get(metric) for line in lines]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


class Change(NamedTuple):
    """A metric before and after training, means over seeds."""

    start: float
    end: float
    lowest: float
    """End of the seed where it is lowest; an interval from three seeds, of which one may collapse, would say less."""
    highest: float


def estimate_change(starts: Float[np.ndarray, " seed"], ends: Float[np.ndarray, " seed"]) -> Change:
    """From the value of every seed before and after."""
    return Change(*(float(value) for value in (starts.mean(), ends.mean(), ends.min(), ends.max())))


def metric_change(out: Path, name: str, seeds: Sequence[int], metric: str) -> Change:
    """A metric at the first step, which sees the untrained student, and over the last ones."""
    curves = np.stack([read_curve(out, name, seed, metric) for seed in seeds])
    return estimate_change(curves[:, 0], curves[:, -LAST_STEPS:].mean(1))


def checked_change(out: Path, name: str, seeds: Sequence[int]) -> Change:
    """Checks per written step in the test responses: how far the rule "Check every step." is kept without being shown.

    Of students that write steps as lines, `+8=65?15:55`.
    """
    return _text_change(out, name, seeds, lambda texts: "".join(texts).count("?") / max("".join(texts).count("="), 1))


def reference_change(out: Path, name: str, seeds: Sequence[int]) -> Change:
    """Share of the test responses with the word "reference".

    The metric `referring_share` looks for whole phrases, and misses those that a student misspells.
    """
    return _text_change(out, name, seeds, lambda texts: sum("reference" in text for text in texts) / len(texts))


def _text_change(out: Path, name: str, seeds: Sequence[int], measure: Callable[[Sequence[str]], float]) -> Change:
    starts, ends = (
        np.array([measure(_read_evaluation(out, name, seed, last=last)["text"].to_list()) for seed in seeds])
        for last in (False, True)
    )
    return estimate_change(starts, ends)


def count_alarms(out: Path, name: str, seeds: Sequence[int]) -> Counter[str]:
    """How many seeds each alarm rang in."""
    rung: Counter[str] = Counter()
    for seed in seeds:
        rung.update({alarm["name"] for alarm in read_json(out / f"{name}-{seed}" / DONE)["alarms"]})
    return rung


def read_costs(out: Path) -> list[dict[str, Any]]:
    """CPU seconds of everything that was run."""
    path = out / COSTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
