"""Several runs side by side: does a context help one student more than another (student x context)?

    score(run, arm)      = corrected pooled cosine of the arm in that run
    difference           = score(run 2, arm) - score(run 1, arm)
    interaction          = [score(run 2, a) - score(run 2, b)] - [score(run 1, a) - score(run 1, b)]

Intervals delete a question from all runs at once, so the runs must have asked the same questions, in the same way, of
teachers in the same contexts; what a run's kept candidates are depends on its thresholds and on its teachers. Scores
are corrected for noise, so that the runs may differ in their numbers of rollouts.

    comparison = compare_runs(["runs/small", "runs/large"])
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float

from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.contributions import SPLITS
from hydrometer.alignment.entries import finite
from hydrometer.alignment.intervals import Jackknife, contrast, jackknife
from hydrometer.alignment.metrics import METRICS, TERMS
from hydrometer.alignment.study import build_study
from hydrometer.artifacts import read_json, read_table
from hydrometer.artifacts.model_identity import is_same_model
from hydrometer.errors import RunFolderError, UserError
from hydrometer.types import STUDENT

SAME_SETTINGS = ("candidate_threshold", "min_visits", "temperature", "top_p", "max_response_tokens")
"""Keys of the configuration that decide which candidates are compared and what success means."""
Keys = tuple[str, str]
"""Teacher and objective."""


class RunComparison(NamedTuple):
    """Polars tables; value, low, high are null with a reason."""

    scores: pl.DataFrame
    """run, student, teacher, objective, value, low, high, n_questions, reason."""
    differences: pl.DataFrame
    """run_1, run_2, teacher, objective, ...: run 2 minus run 1."""
    interactions: pl.DataFrame
    """run_1, run_2, teacher, against, objective, ...: the advantage of teacher over against, run 2 minus run 1."""


class _Run(NamedTuple):
    name: str
    student: str
    scores: Mapping[Keys, Jackknife]


def compare_runs(folders: Sequence[str | Path]) -> RunComparison:
    """Scores of every arm in every run, their differences between runs, and the interactions with the context.

    Args:
        folders: two or more folders of finished diagnoses.

    Raises:
        UserError: fewer than two folders, or runs that cannot be compared; the message says what differs.
        RunFolderError: a folder that holds no finished diagnosis.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        given = ", ".join(str(path) for path in paths) or "none"
        raise UserError(f"Comparing runs needs two or more different run folders, got {given}.")
    described = [_describe_run(path) for path in paths]
    _refuse_different(paths, described)
    runs = [_load(path, entry) for path, entry in zip(paths, described, strict=True)]
    scores = [_row({"run": run.name, "student": run.student}, key, value) for run in runs for key, value in _items(run)]
    differences, interactions = [], []
    for first, second in combinations(runs, 2):
        pair = {"run_1": first.name, "run_2": second.name}
        for key, value in _items(second):
            differences.append(_row(pair, key, contrast([value, first.scores[key]], [1.0, -1.0])))
        for a, b in combinations(sorted(second.scores), 2):
            if a[1] == b[1]:
                parts = [second.scores[a], second.scores[b], first.scores[a], first.scores[b]]
                entry = _row(pair, a, contrast(parts, [1.0, -1.0, -1.0, 1.0]))
                interactions.append(entry | {"against": b[0]})
    return RunComparison(
        *(pl.DataFrame(rows, infer_schema_length=None) for rows in (scores, differences, interactions))
    )


def _items(run: _Run) -> list[tuple[Keys, Jackknife]]:
    return sorted(run.scores.items())


def _describe_run(path: Path) -> dict[str, Any]:
    run = read_json(path / "run.json")
    if run.get("kind") != "diagnosis" or run.get("status") != "done":
        raise RunFolderError(
            f"{path} holds a run of kind '{run.get('kind')}' with status '{run.get('status')}', expected a finished "
            "diagnosis. Finish it with --resume."
        )
    questions = read_table(path / "questions.parquet")["question_id"].to_list()
    same: dict[str, Any] = {"task": run["task"], "task_fingerprint": run["task_fingerprint"], "questions": questions}
    same["teachers"] = {name: entry["context"] for name, entry in sorted(run["teachers"].items())}
    same["teacher models"] = {
        name: run["models"][name]["fingerprint"]
        for name in sorted(run["teachers"])
        if not is_same_model(run["models"][name]["fingerprint"], run["models"]["student"]["fingerprint"])
    }
    same["objectives"] = dict(sorted(run["objectives"].items()))
    return {"same": same | {key: run["config"].get(key) for key in SAME_SETTINGS}, "run": run}


def _agree(one: Any, other: Any) -> bool:
    """Equal, up to the rounding in the fingerprints of served models."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_agree(one[key], other[key]) for key in one)
    if isinstance(one, str) and isinstance(other, str):
        return is_same_model(one, other)
    return one == other


def _refuse_different(paths: Sequence[Path], described: Sequence[Mapping[str, Any]]) -> None:
    """Names everything in which a run differs from the first."""
    first = described[0]["same"]
    found = [
        f"  {key}: {_told(first[key], other['same'][key])} ({path})"
        for path, other in zip(paths[1:], described[1:], strict=True)
        for key in first
        if not _agree(first[key], other["same"][key])
    ]
    if found:
        more = [f"  and {len(found) - 7} more"] if len(found) > 7 else []
        listed = "\n".join([*found[:7], *more])
        raise UserError(
            f"These runs cannot be compared; against {paths[0]} they differ in\n{listed}\n"
            "Diagnose the students with the same task, questions, teachers and thresholds."
        )


def _told(first: Any, second: Any) -> str:
    """Two values in a few words: what only one of them has, where they are collections."""
    if isinstance(first, list):
        return f"{len(set(second) - set(first))} only here, {len(set(first) - set(second))} missing"
    if isinstance(first, dict):
        only = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        return ", ".join(only[:4]) + (f" and {len(only) - 4} more" if len(only) > 4 else "")
    return f"{second!r} instead of {first!r}"


def _load(path: Path, described: Mapping[str, Any]) -> _Run:
    nodes, candidates, teacher_scores = (
        read_table(path / f"{name}.parquet") for name in ("nodes", "candidates", "teacher_scores")
    )
    objectives = {name: ObjectiveInfo(name) for name in described["same"]["objectives"]}
    study = build_study(STUDENT, nodes, candidates, teacher_scores, objectives)
    questions = described["same"]["questions"]
    rows = np.array([questions.index(name) for name in study.labels.questions], dtype=np.int64)
    scores = {}
    for arm in study.arms:
        sums, counts = (
            _spread(part[:, SPLITS.index("all"), *arm.place], rows, len(questions))
            for part in (study.sums.sums, study.sums.counts)
        )
        has_node = counts[:, TERMS.index("nodes")] > 0.0
        metric = METRICS["pooled_cosine"]
        scores[arm.teacher, arm.objective] = jackknife(
            metric.value, sums, has_node, limits=metric.limits, is_ratio=metric.is_ratio
        )
    return _Run(str(path), described["run"]["models"]["student"]["spec"], scores)


def _spread(
    sums: Float[np.ndarray, "known term"], rows: np.ndarray, n_questions: int
) -> Float[np.ndarray, "question term"]:
    """Zeros for the questions without a node, so that all runs have the same rows."""
    out = np.zeros((n_questions, sums.shape[1]))
    out[rows] = sums
    return out


def _row(named: Mapping[str, str], key: Keys, result: Jackknife) -> dict[str, Any]:
    value = finite(result.value)
    return {
        **named,
        "teacher": key[0],
        "objective": key[1],
        "value": value,
        "low": finite(result.low),
        "high": finite(result.high),
        "n_questions": int(result.n_questions),
        "reason": None if value is not None else "no_score",
    }
