"""Which advice on tokens earns its keep: training on as many tokens by different rules.

Three teachers, one student and task, `reverse_kl`, the budget of the cells. Every rule but `all` trains on a quarter of
each step's tokens (`--weights RULE@0.25`). The advice is that of a diagnosis of its own with the teacher alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.predictive_cells import EXAM, SEEDS, TRAINING
from benchmarks.predictive_results import estimate_gain
from benchmarks.predictive_runs import examine, teacher_spec
from benchmarks.study_arms import DONE, run_once
from benchmarks.study_results import question_shares
from benchmarks.study_tables import markdown_table
from hydrometer.artifacts import read_json, read_table
from hydrometer.diagnosis.run import diagnose
from hydrometer.evaluation.wording import points
from hydrometer.training.run import train

STUDENT, TASK, BLOCK = "bundled:student", "bundled:chain", "small"
TEACHERS = ("expert", "other", "solution")
SHARE = 0.25
ADVISED = "advised"
RULES: Mapping[str, str] = {
    ADVISED: f"@{SHARE}",
    "random": f"all@{SHARE}",
    "high_kl": f"kl_above:{1.0 - SHARE}",
    "incorrect": f"incorrect@{SHARE}",
    "overlap": f"overlap@{SHARE}",
    "all": "all",
}
"""`--weights`; the advice stands before its share."""
DIAGNOSIS: Mapping[str, Any] = {"questions": 40, "max_response_tokens": 64, "threads": 1}


def run_tokens(out: Path, teacher: str, seed: int) -> None:
    """Every rule with one teacher and seed, and the diagnosis before them."""
    advice = out / f"advice-{teacher}"
    spec = [teacher_spec(out, teacher)]
    run_once(
        advice,
        lambda: diagnose(
            out=advice,
            student=STUDENT,
            task=TASK,
            teacher=spec,
            objective=["reverse_kl"],
            resume=advice.exists(),
            **DIAGNOSIS,
        ),
    )
    for rule, weights in RULES.items():
        if rule == ADVISED and not is_advised(out, teacher):
            continue
        folder = out / f"tokens-{teacher}-{rule}-{seed}"
        options: Mapping[str, Any] = {
            **TRAINING,
            "teacher": spec,
            "weights": f"{advice}{weights}" if rule == ADVISED else weights,
            "seed": seed,
        }
        print(folder.name, flush=True)
        run_once(folder, lambda: train(out=folder, student=STUDENT, task=TASK, resume=folder.exists(), **options))  # noqa: B023
        examine(out / f"after-{folder.name}", str(folder / "model"), task=TASK, seed=seed, **EXAM)


def is_advised(out: Path, teacher: str) -> bool:
    """Whether the diagnosis advises any choice of tokens."""
    return bool(read_json(out / f"advice-{teacher}" / DONE)["analyses"]["advice"]["advised"])


def token_answers(out: Path) -> Iterator[dict[str, Any]]:
    """Rows of `tokens.parquet`: teacher, rule, seed, test question -> share of right answers before and after."""
    before = out / f"before-{BLOCK}"
    for teacher in TEACHERS:
        for rule in RULES:
            for seed in SEEDS:
                folder = out / f"tokens-{teacher}-{rule}-{seed}"
                after = out / f"after-{folder.name}"
                if not (after / DONE).exists():
                    continue
                trained = pl.read_ndjson(folder / "metrics.jsonl", infer_schema_length=None)["weighted_share"].mean()
                shares = [question_shares(read_table(one / "evaluation.parquet")) for one in (before, after)]
                for question, (start, end) in enumerate(zip(*shares, strict=True)):
                    row = {"teacher": teacher, "rule": rule, "seed": seed, "question": question}
                    yield row | {"before": start, "after": end, "trained_share": trained}


def describe_tokens(answers: pl.DataFrame) -> str:
    """One row per teacher and rule: gain, and its difference to as many random tokens over the seeds that both have."""
    rows = []
    for teacher in TEACHERS:
        for rule in RULES:
            mine = answers.filter(teacher=teacher, rule=rule).sort("seed", "question")
            if not mine.height:
                rows.append([f"`{teacher}`", rule, "0", "", "", ""])
                continue
            gain = estimate_gain(_by_seed(mine, mine["after"] - mine["before"]))
            share = f"{100 * float(np.mean(mine['trained_share'].to_numpy())):.0f} %"
            cells = [str(mine["seed"].n_unique()), share, points(gain.describe())]
            rows.append([f"`{teacher}`", rule, *cells, _against_random(answers, mine)])
    return markdown_table(["teacher", "tokens", "seeds", "share trained on", "gain", "to as many at random"], rows)


def _against_random(answers: pl.DataFrame, mine: pl.DataFrame) -> str:
    other = answers.filter(teacher=mine["teacher"][0], rule="random").select("seed", "question", random="after")
    both = mine.join(other, on=["seed", "question"]).sort("seed", "question")
    if not both.height or mine["rule"][0] == "random":
        return ""
    return points(estimate_gain(_by_seed(both, both["after"] - both["random"])).describe())


def _by_seed(rows: pl.DataFrame, values: pl.Series) -> np.ndarray:
    return values.to_numpy().reshape(rows["seed"].n_unique(), -1)
