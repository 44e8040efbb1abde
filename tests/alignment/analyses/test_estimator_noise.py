"""The variance of a sampled direction: enumeration of every token, and draws."""

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest

from hydrometer.alignment.analyses.estimator_noise import estimator_noise, single_sample_variance
from hydrometer.alignment.arrays import pack_nodes


def test_variance_by_draws():
    rng = np.random.default_rng(1)
    p = np.array([0.5, 0.2, 0.1])  # 0.2 of the mass is not kept
    f = np.array([-0.3, 0.9, 1.4])
    rows = [
        {"question_id": "q", "rollout_id": 1, "position": 0, "token_id": i, "continuation": "student"}
        | {"student_logprob": math.log(p[i]), "kept": True, "visits": 4, "success_rate": 0.5, "success_variance": 0.1}
        | {"successes_a": 1, "visits_a": 2, "successes_b": 1, "visits_b": 2}
        for i in range(3)
    ]
    kept = pack_nodes(pl.DataFrame(rows))
    drawn = rng.choice(4, p=[*p, 1 - p.sum()], size=400_000)
    w = p / p.sum()
    sampled = np.where(drawn[:, None] < 3, (np.eye(4)[drawn][:, :3] - w) * np.append(f, 0.0)[drawn][:, None], 0.0)
    assert single_sample_variance(kept, f[None])[0] == pytest.approx(sampled.var(0).sum(), rel=0.01)
    mean = p * (f - w @ f)
    assert sampled.mean(0) == pytest.approx(mean, abs=0.005)


def enumerate_noise(tables, teacher, name):
    """Sum over nodes of W |mean|^2 and of W trace Cov, from every possible token."""
    scores = {
        (r["question_id"], r["rollout_id"], r["position"], r["token_id"]): r
        for r in tables.teacher_scores.to_dicts()
        if r["teacher"] == teacher
    }
    weights = {
        (r["question_id"], r["rollout_id"], r["position"]): r["path_weight"] * r["node_weight"]
        for r in tables.nodes.to_dicts()
    }
    nodes = defaultdict(list)
    for r in tables.candidates.to_dicts():
        if r["kept"]:
            nodes[r["question_id"], r["rollout_id"], r["position"]].append(r)
    totals = np.zeros(2)
    for key, rows in nodes.items():
        if len(rows) < 2:
            continue
        p = np.array([math.exp(r["student_logprob"]) for r in rows])
        own = [scores[(*key, r["token_id"])] for r in rows]
        if name == "sampled_token":
            f = [s["teacher_logprob"] - r["student_logprob"] for s, r in zip(own, rows, strict=True)]
        else:
            f = [s["reward_to_go"] for s in own]
        outcomes = [f[a] * (np.eye(len(p))[a] - p / p.sum()) for a in range(len(p))]
        mean = sum(p[a] * outcomes[a] for a in range(len(p)))
        second = sum(p[a] * (outcomes[a] ** 2).sum() for a in range(len(p)))
        totals += weights[key] * np.array([mean @ mean, second - mean @ mean])
    return totals


def test_pooled_ratio_by_enumeration_and_minillm_where_it_is_known(make_tables, study_of):
    tables = make_tables(questions=6)
    rng = np.random.default_rng(2)
    scores = tables.teacher_scores.with_columns(
        reward_to_go=pl.when(pl.col("teacher") == "sage").then(
            pl.Series(rng.standard_normal(tables.teacher_scores.height))
        )
    )
    tables = tables._replace(teacher_scores=scores)
    found = {(r["teacher"], r["estimator"]): r for r in estimator_noise(study_of(tables), scores)}
    for teacher, name in (("sage", "sampled_token"), ("fool", "sampled_token"), ("sage", "minillm")):
        mean, variance = enumerate_noise(tables, teacher, name)
        row = found[teacher, name]
        assert (row["mean_squared"], row["variance"]) == (pytest.approx(mean), pytest.approx(variance))
        assert row["ratio"]["value"] == pytest.approx(mean / variance)
        assert row["rollouts_for_unit_ratio"] == pytest.approx(variance / mean)
    missing = found["fool", "minillm"]
    assert (missing["ratio"]["value"], missing["ratio"]["reason"]) == (None, "no_reward_to_go")
    assert missing["is_upper_bound"] and not found["fool", "sampled_token"]["is_upper_bound"]
