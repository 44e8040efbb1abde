"""The bundled family as a problem with known truth: two large diagnoses that are made once, and drawn from.

`reference`: one path per question, 100 visits for every candidate. Its rates are taken for true, and branches draw
their outcomes from them. `paths`: 24 scored on-policy paths per question, from which outcomes draw theirs.
A run is questions drawn with replacement; its truth is the reference's exact pooled cosine.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.estimation_curves import Point, Truth, curve_of, token_ratios
from benchmarks.estimation_problems import Array, Chains
from benchmarks.estimation_strategies import Sums, Windowed
from hydrometer.alignment.arrays import FIELD_PREFIX, centre, pack_fields, pack_nodes
from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.outcomes import path_columns, taken_scores
from hydrometer.artifacts import read_table
from hydrometer.diagnosis.run import diagnose

TEACHERS = (
    "expert=bundled:expert",
    "early=bundled:early",
    "self+answer",
    "self+wrong_answer",
    "self+rule:Check every step.",
    "self+empty:answer",
)
OBJECTIVE = "reverse_kl"
OBJECTIVES = {OBJECTIVE: ObjectiveInfo(OBJECTIVE)}
REPEATS = 60
"""Independent measurements of each question."""


def bundled_choice(cache: Path) -> dict[str, float]:
    """Regret of the choice among the bundled teachers, with and without the best one."""
    chains, teachers = _reference_chains(_made(cache / "reference", visits=100, rollouts=32))
    paths = _path_sums(_made(cache / "paths", allocation="choose", paths=24), teachers)
    result = {}
    for left_out in ((), ("expert",)):
        kept = [index for index, name in enumerate(teachers) if name not in left_out]
        truth = Truth(_true_cosines(chains)[kept], np.zeros(len(kept)))
        windowed = [Windowed(100, 200), *(Windowed(n, n) for n in (5, 10, 20, 50))]
        curves = [_curve(_of(_repeated(strategy, chains, seed), kept), truth) for seed, strategy in enumerate(windowed)]
        outcomes = _curve(_of(_regrouped(paths, 4), kept), truth)
        name = "bundled" + "".join(f"_without_{name}" for name in left_out)
        named = {teachers[index]: round(float(value), 3) for index, value in zip(kept, truth.cosine, strict=True)}
        print(f"\n{name}: true pooled cosines {named}\n")
        for label, curve in zip([*(s.name for s in windowed), "outcomes of 4 paths"], [*curves, outcomes], strict=True):
            print(f"{label}: " + " | ".join(f"{p.tokens / 1e3:.1f}: {1e3 * p.regret:.0f}" for p in curve))
        for label, others in (("published", curves[:1]), ("windowed", curves)):
            ratios = token_ratios(curves[0], others, outcomes, tuple(p.questions for p in curves[0]))
            known = ratios[np.isfinite(ratios)]
            result[f"{name}_{label}"] = float(np.exp(np.log(known).mean())) if len(known) else float("nan")
    return result


def _made(folder: Path, **options: Any) -> Path:
    """The run in a folder; made first if it is not there."""
    if not (folder / "summary.json").exists():
        diagnose(out=folder, teacher=TEACHERS, objective=[OBJECTIVE], questions=32, seed=77, resume=True, **options)
    return folder


def _listed(folder: Path) -> pl.DataFrame:
    """Every candidate that the student can sample, as if it were kept."""
    rate = pl.col("success_rate").fill_null(0.0)
    listed = pl.col("student_logprob").is_not_null()
    return read_table(folder / "candidates.parquet").with_columns(kept=listed, success_rate=rate)


def _reference_chains(folder: Path) -> tuple[Chains, list[str]]:
    """Paths of the reference in the form of simulated ones, and the names of the teachers."""
    kept = pack_nodes(_listed(folder))
    scores = read_table(folder / "teacher_scores.parquet")
    teachers = [name.partition("=")[0] for name in TEACHERS]
    fields = pack_fields(kept, scores.rename({f"{FIELD_PREFIX}{OBJECTIVE}": "field:x"}), teachers, ["x"]).fields[:, 0]
    nodes = read_table(folder / "nodes.parquet")
    base = read_table(folder / "questions.parquet").sort("question_id")
    ids = base["question_id"].to_list()
    lengths = nodes.group_by("question_id").len().sort("question_id")["len"].to_numpy()
    shape = (len(ids), 1, int(lengths.max()))
    width = kept.is_candidate.shape[1]
    question = np.array([ids.index(name) for name in kept.keys["question_id"]])
    at = (question, 0, kept.keys["position"].to_numpy())
    taken, _ = path_columns(kept, nodes, base)
    p = np.zeros((*shape, width + 1))
    p[..., 0] = 1.0  # positions without a choice: everybody goes on
    rates, is_candidate = np.zeros((*shape, width + 1)), np.zeros((*shape, width), dtype=bool)
    token, spread = np.zeros(shape, dtype=np.int64), np.zeros((len(teachers), *shape, width))
    p[at] = np.append(kept.weights * kept.mass[:, None], np.maximum(1.0 - kept.mass, 0.0)[:, None], axis=1)
    mean = (kept.weights * kept.rates).sum(-1)
    rates[at] = np.append(np.where(kept.is_candidate, kept.rates, 0.0), mean[:, None], axis=1)
    is_candidate[at], token[at] = kept.is_candidate, np.where(taken >= 0, taken, width)
    spread[(slice(None), *at)] = fields
    value = np.broadcast_to(base["success_rate"].to_numpy()[:, None, None], shape).copy()
    value[at] = mean
    is_node = np.arange(shape[2]) < lengths[:, None, None]
    remaining = np.where(is_node, lengths[:, None, None] - np.arange(shape[2]) - 1.0, 0.0)
    correct = nodes.sort("question_id", "position").group_by("question_id", maintain_order=True).first()["path_correct"]
    chains = Chains(
        probabilities=p / p.sum(-1, keepdims=True),
        rates=np.where(p > 0.0, np.maximum(rates, value[..., None] * (rates.sum(-1, keepdims=True) == 0.0)), 0.0),
        is_candidate=is_candidate,
        is_node=is_node,
        value=value,
        token=token,
        outcome=correct.to_numpy()[:, None],
        remaining=remaining,
        length=lengths[:, None].astype(np.float64),
        fields=spread,
    )
    return chains, teachers


def _true_cosines(chains: Chains) -> Array:
    weights = chains.probabilities[..., :-1] * chains.is_candidate
    mass = weights.sum(-1)
    weights = weights / np.where(mass > 0.0, mass, 1.0)[..., None]
    ideal = centre(weights, mass, chains.rates[..., :-1] * chains.is_candidate)
    directions = centre(weights, mass, chains.fields)
    inner, square = ((directions * other).sum((1, 2, 3, 4)) for other in (ideal, directions))
    return inner / np.sqrt(square * (ideal**2).sum())


def _path_sums(folder: Path, teachers: list[str]) -> Sums:
    """Of every path by itself. Leading axes: question, path."""
    kept = pack_nodes(_listed(folder))
    nodes, questions = read_table(folder / "nodes.parquet"), read_table(folder / "questions.parquet")
    fields = pack_fields(kept, read_table(folder / "teacher_scores.parquet"), teachers, [OBJECTIVE]).fields[:, 0]
    directions = centre(kept.weights, kept.mass, fields)
    taken, surprise = path_columns(kept, nodes, questions)
    paths = nodes.group_by("question_id", "rollout_id").agg(pl.len()).sort("question_id", "rollout_id")
    keys = {key: index for index, key in enumerate(paths.select("question_id", "rollout_id").iter_rows())}
    place = np.array([keys[key] for key in kept.keys.select("question_id", "rollout_id").iter_rows()])
    per_node = (taken_scores(kept.weights, directions, taken) * surprise, (directions**2).sum(-1))
    shape = (questions.height, -1)
    inner, square = (
        np.stack([np.bincount(place, row, minlength=len(keys)).astype(np.float64) for row in values], axis=1).reshape(
            *shape, len(teachers)
        )
        for values in per_node
    )
    length = paths["len"].to_numpy().reshape(shape) * 1.0
    return Sums(inner, square, np.zeros_like(inner), np.full(length.shape, np.nan), length, length)


def _regrouped(paths: Sums, size: int) -> Sums:
    """Groups of paths of one question, as many as there are; leading axes: question, group."""
    return Sums(*(_groups(values, size) for values in paths))


def _groups(values: Array, size: int) -> Array:
    return values.reshape(len(values), -1, size, *values.shape[2:]).sum(2)


def _repeated(strategy: Windowed, chains: Chains, seed: int) -> Sums:
    """The same with independent branches in place of groups."""
    found = [strategy.measure(chains, np.random.default_rng([seed, repeat])) for repeat in range(REPEATS)]
    return Sums(*(np.stack(values, axis=1) for values in zip(*found, strict=True)))


def _of(sums: Sums, kept: list[int]) -> Sums:
    """Some of the teachers, questions and repeats in one axis."""
    flat = Sums(*(values.reshape(-1, *values.shape[2:]) for values in sums))
    return flat._replace(**{name: getattr(flat, name)[:, kept] for name in ("inner", "direction_square", "advantage")})


def _curve(sums: Sums, truth: Truth) -> list[Point]:
    return curve_of(sums, truth, 2000, 5, replace=True)
