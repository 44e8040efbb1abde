"""A small run folder whose tables agree with each other, made without any of the code that makes real ones.

Teachers are p exp(strength * S) on the candidates, so that a positive strength helps, a negative one harms and 0 copies
the student. The vocabulary of a node is its candidates and one more token that takes the rest of the mass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from hydrometer.artifacts import SCHEMA_VERSION, TABLES, build_table, write_json, write_table

OBJECTIVES = ("forward_kl", "reverse_kl")
TEACHERS: Mapping[str, float] = {"expert": 2.0, "self+answer": 0.8, "self+wrong_answer": -1.5, "twin": 0.0}
WORDS = (
    " the",
    " so",
    "\n",
    " 12",
    " +",
    " 7",
    " =",
    " 19",
    ".",
    " check",
    " Now",
    " carry",
    " 1",
    " wait",
    "<|im_end|>",
)
METRICS = ("mean_cosine", "weighted_cosine", "fraction_positive", "mean_advantage", "mean_signal", "pooled_cosine")


@dataclass
class World:
    """Rows of every table, filled question by question."""

    rng: np.random.Generator
    teachers: Mapping[str, float]
    words: Sequence[str]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in TABLES})


def write_run(
    folder: Path,
    *,
    questions: int = 6,
    paths: int = 2,
    tokens: int = 40,
    teachers: Mapping[str, float] = TEACHERS,
    words: Sequence[str] = WORDS,
    seed: int = 0,
    summary: Mapping[str, Any] | None = None,
) -> dict[str, pl.DataFrame]:
    """Write a finished run into `folder` and return its tables."""
    world = World(np.random.default_rng(seed), teachers, words)
    for number in range(questions):
        _add_question(world, f"q{number:03d}", paths, tokens)
    extra = [f"field:{name}" for name in OBJECTIVES]
    tables = {
        name: build_table(name, rows, extra=extra if name == "teacher_scores" else ())
        for name, rows in world.rows.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        write_table(folder / f"{name}.parquet", frame)
    write_json(folder / "run.json", run_record())
    write_json(folder / "summary.json", make_summary(tables) if summary is None else summary)
    return tables


def run_record() -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "done",
        "seed": 0,
        "device": "cpu",
        "config": {
            "student": "bundled:student",
            "task": "bundled:chain",
            "epsilon": 0.02,
            "teacher": [{"name": name, "spec": f"bundled:{name}"} for name in TEACHERS],
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64},
        },
        "versions": {"hydrometer": "0.1.0", "torch": "2.9.0"},
        "models": {"student": {"hash": "ab12"}, "expert": {"hash": "cd34"}},
    }


def _add_question(world: World, name: str, paths: int, tokens: int) -> None:
    correct = int(world.rng.integers(8, 25))
    world.rows["questions"].append(
        {
            "question_id": name,
            "task": "bundled:chain",
            "prompt": f"Start with 7.\nAdd 5, then take 3 away. ({name})",
            "answer": "9",
            "rollouts": 32,
            "correct": correct,
            "success_rate": correct / 32,
            "success_low": max(0, correct / 32 - 0.17),
            "success_high": min(1, correct / 32 + 0.17),
            "informative": True,
            "unparsed": 0,
            "correct_strict": correct,
            "correct_relaxed": correct,
            "messages": [{"role": "user", "content": "a prompt"}],
        }
    )
    for teacher in world.teachers:
        skipped = teacher == "self+answer" and name == "q001"
        world.rows["contexts"].append(
            {
                "question_id": name,
                "teacher": teacher,
                "prompt": None if skipped else f"Start with 7. The answer is 9. ({teacher})",
                "demo_rollout_ids": [],
                "demos_by": None,
                "summariser": None,
                "skipped": skipped,
                "reason": "no correct rollout to show" if skipped else None,
                "messages": [] if skipped else [{"role": "user", "content": "a prompt"}],
                "instances": None,
            }
        )
    for path in range(paths):
        _add_path(world, name, path, tokens, is_correct=path % 2 == 0)


def _add_path(world: World, name: str, path: int, tokens: int, *, is_correct: bool) -> None:
    drawn = [int(world.rng.integers(len(world.words))) for _ in range(tokens)]
    world.rows["rollouts"].append(
        {
            "question_id": name,
            "rollout_id": path,
            "kind": "path",
            "model": "student",
            "parent_rollout_id": None,
            "forced_tokens": 0,
            "token_ids": drawn,
            "text": "".join(world.words[token] for token in drawn),
            "score": float(is_correct),
            "correct": is_correct,
            "truncated": False,
            "correct_strict": is_correct,
            "correct_relaxed": is_correct,
            "parsed": True,
        }
    )
    for position, token in enumerate(drawn):
        key = {"question_id": name, "rollout_id": path, "position": position}
        _add_node(world, key, token, is_correct=is_correct, depth=position / tokens)


class Measured(NamedTuple):
    """A node as arrays over its candidates."""

    key: dict[str, Any]
    is_correct: bool
    depth: float
    ids: list[int]
    p: np.ndarray
    visits: np.ndarray
    successes: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        return self.successes / self.visits

    @property
    def variances(self) -> np.ndarray:
        return self.rates * (1 - self.rates) / (self.visits - 1)

    @property
    def kept(self) -> np.ndarray:
        return self.visits >= 20

    @property
    def mass(self) -> float:
        return float(self.p[self.kept].sum())

    @property
    def is_measured(self) -> bool:
        return int(self.kept.sum()) >= 2

    def share(self, weights: np.ndarray) -> np.ndarray:
        return np.where(self.kept, weights, 0.0) / max(float(weights[self.kept].sum()), 1e-12)

    def centre(self, values: np.ndarray) -> np.ndarray:
        w = self.share(self.p)
        return self.mass * w * (values - (w * values).sum())


def _add_node(world: World, key: dict[str, Any], token: int, *, is_correct: bool, depth: float) -> None:
    rng = world.rng
    width = int(rng.choice([1, 1, 1, 2, 2, 3, 4]))
    ids = [token, *[int(other) for other in rng.permutation(len(world.words)) if other != token][: width - 1]]
    visits = rng.integers(8, 120, size=width)
    truth = np.clip(rng.beta(2, 2) + rng.normal(0, 0.25, size=width), 0.02, 0.98)
    p = rng.dirichlet(np.full(width, 3.0)) * 0.96
    here = Measured(key, is_correct, depth, ids, p, visits, rng.binomial(visits, truth))
    _add_candidates(world, here)
    w, rates, measured = here.share(p), here.rates, here.is_measured
    noise = here.mass**2 * (w**2 * (1 - 2 * w + (w**2).sum()) * here.variances).sum()
    gap = float(np.ptp(rates[here.kept])) if measured else None
    numbers = {
        "path_weight": 1.0,
        "node_weight": 1.0,
        "noise_correction": noise if measured else None,
        "kept_candidates": int(here.kept.sum()),
        "kept_student_mass": here.mass,
        "student_entropy_nats": float(-(p * np.log(p)).sum()),
        "value": float((w * rates).sum()) if here.kept.any() else None,
        "success_gap": gap,
        "ideal_norm": float(np.linalg.norm(here.centre(rates))) if measured else None,
    }
    reason = None if gap else "equal_success_rates" if measured else "fewer_than_two_kept"
    names = {"token_id": token, "token": world.words[token], "continuation": "student"}
    row = {**key, **names, **numbers, "path_correct": is_correct, "eligible": bool(gap), "reason": reason}
    world.rows["nodes"].append(row)
    for teacher, strength in world.teachers.items():
        _add_scores(world, here, teacher, strength)


def _add_candidates(world: World, here: Measured) -> None:
    first = (here.visits + 1) // 2
    first_right = world.rng.hypergeometric(here.successes, here.visits - here.successes, first)
    for k, token in enumerate(here.ids):
        counts = {
            "visits": int(here.visits[k]),
            "successes": int(here.successes[k]),
            "visits_a": int(first[k]),
            "successes_a": int(first_right[k]),
            "visits_b": int(here.visits[k] - first[k]),
            "successes_b": int(here.successes[k] - first_right[k]),
        }
        rate = float(here.rates[k])
        estimate = {
            "success_rate": rate,
            "success_variance": float(here.variances[k]),
            "success_low": max(0.0, rate - 0.15),
            "success_high": min(1.0, rate + 0.15),
            "estimator": "count",
            "kept": bool(here.kept[k]),
        }
        names = {"token_id": token, "token": world.words[token], "continuation": "student", "student_rank": k}
        row = {**here.key, **names, **counts, **estimate, "student_logprob": math.log(here.p[k])}
        world.rows["candidates"].append(row)


def _add_scores(world: World, here: Measured, teacher: str, strength: float) -> None:
    p = here.p
    q = p * np.exp(strength * here.rates + world.rng.normal(0, 0.15 * (strength != 0), size=len(p)))
    q = q / q.sum() * p.sum()
    fields = {"reverse_kl": np.log(q / p), "forward_kl": q / p}
    for k, token in enumerate(here.ids):
        values = {f"field:{name}": f[k] for name, f in fields.items()}
        rewards = dict.fromkeys(("reward_to_go", "reward_variance", "reward_success_covariance"))
        scored = {"teacher_logprob": math.log(q[k]), "teacher_rank": k, **rewards, **values}
        world.rows["teacher_scores"].append({**here.key, "token_id": token, "teacher": teacher, **scored})
    full = {
        "reverse_kl_nats": float((p * np.log(p / q)).sum()),
        "l2": float(np.linalg.norm(p - q)),
        "distribution_cosine": 0.9,
        "total_variation": float(np.maximum(q - p, 0.0).sum()),
        "teacher_entropy_nats": float(-(q * np.log(q)).sum()),
        **dict.fromkeys(("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass"), 0.9),
        "student_topk_mass": None,
        "teacher_topk_mass": None,
    }
    for objective, f in fields.items():
        rest = 0.0 if objective == "reverse_kl" else 1.0  # the remaining token has q = p
        mean = float((p * f).sum() + (1 - p.sum()) * rest)
        square = float(((p * (f - mean)) ** 2).sum() + ((1 - p.sum()) * (rest - mean)) ** 2)
        arm = {**here.key, "teacher": teacher, "objective": objective, **full}
        world.rows["token_scores"].append({**arm, "field_mean": mean, "full_norm_squared": square})
        if here.is_measured:
            kept_square = float((((p * (f - mean)) ** 2) * here.kept).sum())
            share = kept_square / square if square > 0 else None
            world.rows["alignment"].append({**arm, **_align(here, q, f), "direction_share": share})


def _align(here: Measured, q: np.ndarray, field: np.ndarray) -> dict[str, Any]:
    g, d = here.centre(here.rates), here.centre(field)
    inner, norm, ideal_norm = float(g @ d), float(np.linalg.norm(d)), float(np.linalg.norm(g))
    has_cosine = norm >= 1e-6 and ideal_norm > 0
    return {
        "continuation": "student",
        "path_correct": here.is_correct,
        "depth_frac": here.depth,
        "inner_product": inner,
        "ideal_norm": ideal_norm,
        "direction_norm": norm,
        "cosine": inner / (norm * ideal_norm) if has_cosine else None,
        "signal": inner / norm if norm >= 1e-6 else 0.0,
        "advantage": float(((here.share(q) - here.share(here.p)) * here.rates).sum()),
        "reason": None if has_cosine else "no_direction" if ideal_norm > 0 else "equal_success_rates",
    }


_TEST = {"teacher": "expert", "objective": "reverse_kl", "n_questions": 6, "reason": None, "continuation": "student"}
TESTS = (
    {"family": "against no teacher", **_TEST, "against": "no teacher", "p": 0.03125, "p_holm": 0.04},
    {"family": "correct against incorrect: mean_cosine", **_TEST, "against": None, "p": 0.4375, "p_holm": 1.0},
)
WARNINGS = ("Only 6 questions: intervals over questions are wide.", "self+answer was skipped for 1 of 6 questions.")


def make_summary(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Point values from the alignment table; intervals of a made-up width; the best arm recommended."""
    arms = []
    for (teacher, objective), rows in sorted(
        tables["alignment"].partition_by("teacher", "objective", as_dict=True).items()
    ):
        splits = {
            "all": rows,
            "correct": rows.filter("path_correct"),
            "incorrect": rows.filter(~pl.col("path_correct")),
        }
        arms.append(
            {
                "teacher": teacher,
                "objective": objective,
                "continuation": "student",
                "reference": False,
                "measured_share": 0.41,
                "correct_minus_incorrect": {name: _score(0.05, rows, rows, name) for name in METRICS},
                "aliases": ["sampled_token", "k2"] if objective == "reverse_kl" else [],
                "scores": {split: _scores(frame) for split, frame in splits.items()},
            }
        )
    scored = [arm for arm in arms if arm["scores"]["all"]["pooled_cosine"]["value"] is not None]
    scored.sort(key=lambda arm: -arm["scores"]["all"]["pooled_cosine"]["value"])
    ranking = [_ranked(arm, 0.97 if place == 0 else 0.01) for place, arm in enumerate(scored)]
    ranking.append(
        {"teacher": "no teacher", "objective": "none", "continuation": "student", "score": 0.0, "p_within_epsilon": 0.0}
    )
    ranking.sort(key=lambda entry: -entry["score"])
    best = ranking[0]
    sentence = f"{best['teacher']} with {best['objective']} points most towards success on these questions."
    return {
        "arms": arms,
        "ranking": ranking,
        "recommendation": {
            "teacher": best["teacher"],
            "objective": best["objective"],
            "probability": 0.97,
            "sentence": sentence,
        },
        "tests": list(TESTS),
        "correlations": {},
        "analyses": {},
        "warnings": list(WARNINGS),
        "cost": {"rollouts": 1920, "generated_tokens": 81234, "scored_tokens": 40960, "wall_s": 71.25},
    }


def _ranked(arm: Mapping[str, Any], probability: float) -> dict[str, Any]:
    score = arm["scores"]["all"]["pooled_cosine"]["value"]
    return {
        "teacher": arm["teacher"],
        "objective": arm["objective"],
        "continuation": "student",
        "score": score,
        "p_within_epsilon": probability,
    }


def _scores(rows: pl.DataFrame) -> dict[str, Any]:
    eligible = rows.drop_nulls("cosine")
    square = float((rows["ideal_norm"] ** 2).sum()) * float((rows["direction_norm"] ** 2).sum())
    values: dict[str, Any] = {
        "mean_cosine": eligible["cosine"].mean(),
        "weighted_cosine": eligible["cosine"].mean(),
        "fraction_positive": (eligible["cosine"] > 0).mean(),
        "mean_advantage": rows["advantage"].mean(),
        "mean_signal": rows["signal"].mean(),
        "pooled_cosine": float(rows["inner_product"].sum()) / math.sqrt(square) if square > 1e-12 else None,
    }
    return {name: _score(values[name], rows, eligible, name) for name in METRICS}


def _score(value: float | None, rows: pl.DataFrame, eligible: pl.DataFrame, name: str) -> dict[str, Any]:
    used = rows if name in ("mean_advantage", "mean_signal", "pooled_cosine") else eligible
    intervals = {"questions": None, "these_questions": None}
    if value is not None:
        width = 0.14 if "cosine" in name else 0.02
        intervals = {
            "questions": [value - width, value + width],
            "these_questions": [value - width / 2, value + width / 2],
        }
    return {
        "value": value,
        "plain": value,
        "n_nodes": used.height,
        "n_questions": used["question_id"].n_unique(),
        "intervals": intervals,
        "reason": None if value is not None else "no_direction",
        "interval_reasons": {"questions": None if value is not None else "no_value"},
        **_attenuation(value, name),
    }


def _attenuation(value: float | None, name: str) -> dict[str, Any]:
    if value is None or name not in ("mean_cosine", "weighted_cosine", "fraction_positive"):
        return {}
    return {"value_at_half_visits": value - 0.1, "median_visits": 62.0, "split_half_reliability": 0.71}


def multiply_questions(folder: Path, tables: Mapping[str, pl.DataFrame], copies: int) -> None:
    """Write every question of a run `copies` times under names of its own."""
    for name, frame in tables.items():
        if "question_id" not in frame.columns:  # what a run says of all its questions stays
            continue
        named = [frame.with_columns(pl.col("question_id") + f"-{copy}") for copy in range(copies)]
        write_table(folder / f"{name}.parquet", pl.concat(named).sort("question_id", maintain_order=True))
