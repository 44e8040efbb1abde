"""Dr. GRPO on a small tree whose success rates and lengths are known, and its sums again in loops."""

import math
from itertools import pairwise, product

import numpy as np
import polars as pl
import pytest

from hydrometer.alignment import ObjectiveInfo, complete_nodes
from hydrometer.alignment.analyses.group_size import converge_with_group_size
from hydrometer.alignment.study import build_study

P = {(): [0.5, 0.3, 0.2], (0,): [0.6, 0.4], (1,): [0.3, 0.7]}
"""Next-token probabilities; after two tokens, or after token 2, the response goes on to a fixed length and ends."""
SUCCESS = {(0, 0): 0.9, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.6, (2,): 0.4}
LENGTH = {(0, 0): 30, (0, 1): 2, (1, 0): 2, (1, 1): 30, (2,): 3}
"""Long responses tend to be right, so that dividing by the length pulls the other way."""


def draw(rng):
    ids = ()
    while ids not in SUCCESS:
        ids += (int(rng.choice(len(P[ids]), p=P[ids])),)
    return (*ids, *[9] * (LENGTH[ids] - len(ids))), bool(rng.random() < SUCCESS[ids])


def build(questions, base, others, seed=0):
    """Base rollouts, and `others` branches through every token of the two nodes of one path (0, 0, ...)."""
    rng = np.random.default_rng(seed)
    nodes, candidates, rollouts = [], [], []
    for number in range(questions):
        q = f"q{number:03d}"
        rows = [("base", 0, *draw(rng)) for _ in range(base)]
        for prefix in ((), (0,)):
            for token in range(len(P[prefix])):
                found = []
                while len(found) < others:
                    ids, correct = draw(rng)
                    if ids[: len(prefix) + 1] == (*prefix, token):
                        found.append(("branch", len(prefix) + 1, ids, correct))
                rows += found
        path = (0, 0, *[9] * 28)
        rollouts.append(
            {"question_id": q, "rollout_id": 10**6, "kind": "path", "model": "student"}
            | {"token_ids": list(path), "correct": True}
        )
        for i, (kind, _, ids, correct) in enumerate(rows):
            rollouts.append(
                {"question_id": q, "rollout_id": i, "kind": kind, "model": "student"}
                | {"token_ids": list(ids), "correct": correct}
            )
        for position, prefix in enumerate(((), (0,))):
            key = {"question_id": q, "rollout_id": 10**6, "position": position, "continuation": "student"}
            nodes.append(key | {"path_correct": True, "path_weight": 1.0, "node_weight": 1.0})
            for token, p in enumerate(P[prefix]):
                seen = [
                    c
                    for k, forced, ids, c in rows
                    if forced <= position + 1 and ids[: position + 1] == (*prefix, token)
                ]
                n, s = len(seen), sum(seen)
                candidates.append(
                    key
                    | {"token_id": token, "student_logprob": math.log(p), "kept": True, "visits": n, "successes": s}
                    | {"visits_a": (n + 1) // 2, "successes_a": sum(seen[::2]), "visits_b": n // 2}
                    | {"successes_b": sum(seen[1::2]), "success_rate": s / n}
                    | {"success_variance": s / n * (1 - s / n) / (n - 1)}
                )
    tables = pl.DataFrame(nodes), pl.DataFrame(candidates), pl.DataFrame(rollouts)
    scores = (
        tables[1]
        .select("question_id", "rollout_id", "position", "token_id")
        .with_columns(pl.lit("t").alias("teacher"), pl.lit(-1.0).alias("teacher_logprob"), pl.lit(0.0).alias("field:o"))
    )
    study = build_study("student", complete_nodes(*tables[:2]), tables[1], scores, {"o": ObjectiveInfo("o")})
    return study, tables


def limits():
    """Cosine with the ideal of both forms in infinitely large groups, by enumeration."""
    leaf = {ids: math.prod(P[ids[:i]][ids[i]] for i in range(len(ids))) for ids in SUCCESS}
    mean = sum(leaf[ids] * SUCCESS[ids] for ids in leaf)
    ideal, plain, scaled = [], [], []
    for prefix in ((), (0,)):
        through = {ids: w for ids, w in leaf.items() if ids[: len(prefix)] == prefix}
        for token in range(len(P[prefix])):
            for form, weight in ((ideal, None), (plain, 1), (scaled, 2)):
                total = 0.0
                for ids, w in through.items():
                    pull = SUCCESS[ids] - mean if weight != 2 else (SUCCESS[ids] - mean) / LENGTH[ids]
                    total += w * pull * ((ids[len(prefix)] == token) - P[prefix][token])
                form.append(total)
    return [np.dot(ideal, d) / math.sqrt(np.dot(ideal, ideal) * np.dot(d, d)) for d in (plain, scaled)]


def test_it_approaches_the_ideal_and_length_normalisation_does_not():
    plain, scaled = limits()
    assert plain == pytest.approx(1.0) and scaled < 0.9
    study, tables = build(questions=12, base=1024, others=400)
    rows = {row["group_size"]: row for row in converge_with_group_size(study, tables[2])}
    assert list(rows) == [2, 4, 8, 16, 32, 64, 128, 256, 512]
    values = [rows[size]["dr_grpo"]["value"] for size in rows]
    assert all(later > earlier for earlier, later in pairwise(values[:7]))
    assert values[-1] > 0.95
    assert rows[512]["length_normalised"]["value"] == pytest.approx(scaled, abs=0.08)
    low, high = rows[512]["length_normalised"]["interval"]
    assert low < scaled < high < 0.95


def test_every_sum_by_loops():
    study, (_, candidates, rollouts) = build(questions=5, base=9, others=6, seed=3)
    rows = {row["group_size"]: row for row in converge_with_group_size(study, rollouts)}
    assert list(rows) == [2, 4]
    for size, form in product((2, 4), ("dr_grpo", "length_normalised")):
        inner = ideal = square = 0.0
        groups = 0
        for (q,), mine in candidates.group_by("question_id", maintain_order=True):
            base = rollouts.filter(pl.col("question_id") == q, kind="base").sort("rollout_id").to_dicts()[1::2]
            teams = [base[i : i + size] for i in range(0, len(base) - size + 1, size)]
            groups += len(teams)
            for position, prefix in enumerate(([], [0])):
                cells = mine.filter(position=position).sort("token_id").to_dicts()
                w = np.exp([c["student_logprob"] for c in cells])
                n, s = (np.array([c[name] for c in cells], float) for name in ("visits", "successes"))
                for row in base:
                    if row["token_ids"][:position] == prefix:
                        n[row["token_ids"][position]] -= 1
                        s[row["token_ids"][position]] -= row["correct"]
                rates = s / n
                h = w * (rates - w @ rates)
                noise = sum(
                    w[k] ** 2 * (1 - 2 * w[k] + w @ w) * rates[k] * (1 - rates[k]) / (n[k] - 1) for k in range(len(w))
                )
                for team in teams:
                    reward = np.mean([row["correct"] for row in team])
                    direction, count = np.zeros(len(w)), 0
                    for row in team:
                        if row["token_ids"][:position] == prefix:
                            length = len(row["token_ids"]) if form == "length_normalised" else 1.0
                            direction += (
                                (row["correct"] - reward) / length * (np.eye(len(w))[row["token_ids"][position]] - w)
                            )
                            count += 1
                    inner += count * h @ direction
                    ideal += count**2 * (h @ h - noise)
                    square += direction @ direction
        assert rows[size]["n_groups"] == groups
        expected = inner / math.sqrt(ideal * square) if ideal > 0 and square > 0 else None
        assert rows[size][form]["value"] == pytest.approx(expected)


def test_without_rollouts_there_is_no_row():
    study, tables = build(questions=2, base=3, others=4)
    assert converge_with_group_size(study, None) == []
    assert converge_with_group_size(study, tables[2].filter(kind="path")) == []
