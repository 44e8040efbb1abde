"""Which advice on tokens earns its keep: training on as many tokens by different rules.

Three teachers, one student and task, `reverse_kl`, the budget of the cells. Every rule but `all` and `all_short` trains
on a quarter of each step's tokens (`--weights RULE@0.25`), or on fewer where the rule takes fewer. `all_short` trains
on as many tokens as they do, in a quarter of the steps; `all` on four times as many. The advice is that of diagnoses
with the teacher alone, one for each model that may continue; where one advises no choice, there is nothing to train.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.predictive_cells import CELLS, EXAM, SEEDS, TRAINING, Cell
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
ADVISED: Mapping[str, str] = {"advised": "student", "advised_ahead": "teacher"}
"""Who continues in the diagnosis that advises."""
RULES: Mapping[str, str] = {
    "random": f"all@{SHARE}",
    "high_kl": f"kl_above:{1.0 - SHARE}",
    "incorrect": f"incorrect@{SHARE}",
    "overlap": f"overlap@{SHARE}",
    "all_short": "all",
    "all": "all",
    "advised": f"@{SHARE}",
    "advised_ahead": f"@{SHARE}",
}
"""`--weights`; the advice stands before its share."""
SHORT = round(SHARE * TRAINING["steps"])
DIAGNOSIS: Mapping[str, Any] = {"questions": 40, "max_response_tokens": 64, "threads": 1}


def run_tokens(out: Path, teacher: str, seed: int) -> None:
    """Every rule with one teacher and seed, and the diagnoses that advise."""
    spec = [teacher_spec(out, teacher)]
    for rule, weights in RULES.items():
        if rule in ADVISED:
            advice = out / f"advice-{teacher}-{ADVISED[rule]}"
            _diagnose(advice, spec, ADVISED[rule])
            if not is_advised(advice):
                continue
            weights = f"{advice}{weights}"
        folder = run_folder(out, teacher, rule, seed)
        options: Mapping[str, Any] = {**TRAINING, "steps": SHORT if rule == "all_short" else TRAINING["steps"]}
        print(folder.name, flush=True)
        _train(folder, {**options, "teacher": spec, "weights": weights, "seed": seed})
        examine(out / f"after-{folder.name}", str(folder / "model"), task=TASK, seed=seed, **EXAM)


def run_folder(out: Path, teacher: str, rule: str, seed: int) -> Path:
    """Where a run stands; a cell of the study is a run on all tokens already."""
    cell = Cell(BLOCK, teacher, "reverse_kl")
    return out / (f"{cell.name}-{seed}" if rule == "all" and cell in CELLS else f"tokens-{teacher}-{rule}-{seed}")


def _diagnose(folder: Path, spec: list[str], continuation: str) -> None:
    asked = {"student": STUDENT, "task": TASK, "teacher": spec, "objective": ["reverse_kl"]}
    resume = folder.exists()
    run_once(folder, lambda: diagnose(out=folder, resume=resume, continuation=continuation, **asked, **DIAGNOSIS))


def _train(folder: Path, options: Mapping[str, Any]) -> None:
    run_once(folder, lambda: train(out=folder, student=STUDENT, task=TASK, resume=folder.exists(), **options))


def is_advised(diagnosis: Path) -> bool:
    """Whether a diagnosis advises any choice of tokens."""
    return bool(read_json(diagnosis / DONE)["analyses"]["advice"]["advised"])


def token_answers(out: Path) -> Iterator[dict[str, Any]]:
    """Rows of `tokens.parquet`: teacher, rule, seed, test question -> share of right answers before and after."""
    before = out / f"before-{BLOCK}"
    for teacher in TEACHERS:
        for rule in RULES:
            for seed in SEEDS:
                folder = run_folder(out, teacher, rule, seed)
                after = out / f"after-{folder.name}"
                if not (after / DONE).exists():
                    continue
                trained, taken = (1.0, 1.0) if RULES[rule] == "all" else _mean_shares(folder)
                trained *= SHORT / TRAINING["steps"] if rule == "all_short" else 1.0
                shares = [question_shares(read_table(one / "evaluation.parquet")) for one in (before, after)]
                for question, (start, end) in enumerate(zip(*shares, strict=True)):
                    row = {"teacher": teacher, "rule": rule, "seed": seed, "question": question}
                    yield row | {"before": start, "after": end, "trained_share": trained, "rule_share": taken}


def _mean_shares(run: Path) -> tuple[float, float]:
    """Of a step's tokens: those trained on and those that the rule takes; `kl_above` is not thinned."""
    steps = pl.read_ndjson(run / "metrics.jsonl", infer_schema_length=None)
    taken = "rule_share" if "rule_share" in steps.columns else "weighted_share"
    trained, whole = (float(steps[name].to_numpy().mean()) for name in ("weighted_share", taken))
    return trained, whole


def describe_tokens(answers: pl.DataFrame) -> str:
    """One row per teacher and rule: gain, and its difference to as many random tokens over the seeds that both have."""
    rows = []
    for teacher in TEACHERS:
        for rule in RULES:
            mine = answers.filter(teacher=teacher, rule=rule).sort("seed", "question")
            if not mine.height:
                rows.append([f"`{teacher}`", rule, "0", "", "", "", ""])
                continue
            gain = estimate_gain(_by_seed(mine, mine["after"] - mine["before"]))
            shares = [
                f"{100 * mine.select(pl.col(name).mean()).item():.0f} %" for name in ("rule_share", "trained_share")
            ]
            cells = [str(mine["seed"].n_unique()), *shares, points(gain.describe())]
            rows.append([f"`{teacher}`", rule, *cells, _against_random(answers, mine)])
    head = ["teacher", "tokens", "seeds", "taken by the rule", "trained on", "gain", "to as many at random"]
    return markdown_table(head, rows)


def _against_random(answers: pl.DataFrame, mine: pl.DataFrame) -> str:
    other = answers.filter(teacher=mine["teacher"][0], rule="random").select("seed", "question", random="after")
    both = mine.join(other, on=["seed", "question"]).sort("seed", "question")
    if not both.height or mine["rule"][0] == "random":
        return ""
    return points(estimate_gain(_by_seed(both, both["after"] - both["random"])).describe())


def _by_seed(rows: pl.DataFrame, values: pl.Series) -> np.ndarray:
    return values.to_numpy().reshape(rows["seed"].n_unique(), -1)
