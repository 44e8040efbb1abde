"""Another teacher for a question only where its lead is beyond the noise of that question."""

import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import stats

from hydrometer.alignment import ObjectiveInfo, complete_nodes
from hydrometer.alignment.advice.by_question import choose_by_question
from hydrometer.alignment.study import build_study


def study_of(tables):
    nodes = complete_nodes(tables.nodes, tables.candidates)
    return build_study(
        "student", nodes, tables.candidates, tables.teacher_scores, {"reverse_kl": ObjectiveInfo("reverse_kl")}
    )


def plain_leads(tables, other, default, z):
    scores = {
        (r["question_id"], r["rollout_id"], r["position"], r["token_id"], r["teacher"]): r["field:reverse_kl"]
        for r in tables.teacher_scores.to_dicts()
    }
    weight = {
        (r["question_id"], r["rollout_id"], r["position"]): r["path_weight"] * r["node_weight"]
        for r in tables.nodes.to_dicts()
    }
    nodes = defaultdict(list)
    for r in tables.candidates.to_dicts():
        if r["kept"]:
            nodes[r["question_id"], r["rollout_id"], r["position"]].append(r)
    nodes = {key: rows for key, rows in nodes.items() if len(rows) > 1}

    def direction(key, rows, teacher):
        p = np.array([math.exp(r["student_logprob"]) for r in rows])
        f = np.array([scores[(*key, r["token_id"], teacher)] for r in rows])
        return p * (f - p @ f / p.sum())

    length = {
        t: math.sqrt(sum(weight[k] * (direction(k, rows, t) ** 2).sum() for k, rows in nodes.items()))
        for t in (other, default)
    }
    leads = defaultdict(float)
    for key, rows in nodes.items():
        p = np.array([math.exp(r["student_logprob"]) for r in rows])
        s = np.array([r["successes"] / r["visits"] for r in rows])
        apart = direction(key, rows, other) / length[other] - direction(key, rows, default) / length[default]
        g = p * (s - p @ s / p.sum())
        slope = p * (apart - p @ apart / p.sum())  # g . apart as a function of S
        v = [stats.beta.var(r["successes"] + 0.5, r["visits"] - r["successes"] + 0.5) for r in rows]
        leads[key[0]] += weight[key] * (g @ apart - z * math.sqrt((slope**2 * v).sum()))
    return dict(leads)


@pytest.mark.parametrize("seed", [0, 1])
def test_choices_by_loops(make_tables, seed):
    tables = make_tables(questions=8, positions=8, visits=80, gains=(3.0, -3.0), noise=0.2, seed=seed)
    study = study_of(tables)
    fool = next(arm for arm in study.arms if arm.teacher == "fool")
    leads = plain_leads(tables, "sage", "fool", stats.norm.isf(0.05 / 8))
    expected = [("sage", True) if leads[q] > 0 else ("fool", False) for q in study.labels.questions]
    assert [(c.teacher, c.is_separated) for c in choose_by_question(study, fool)] == expected
    assert any(separated for _, separated in expected)
    nobody = choose_by_question(study, fool, teachers=frozenset())
    assert {(c.teacher, c.is_separated) for c in nobody} == {("fool", False)}


def test_noise_separates_hardly_any_question(make_tables):
    wrong = 0
    for seed in range(12):
        study = study_of(make_tables(questions=10, visits=12, gains=(0.0, 0.0), noise=1.0, seed=seed))
        rng = np.random.default_rng(seed)
        flat = np.where(study.kept.is_candidate, rng.binomial(study.kept.visits.astype(int), 0.5), 0.0)
        rates = np.divide(flat, study.kept.visits, out=np.zeros_like(flat), where=study.kept.is_candidate)
        study.kept.rates[:] = rates  # equal true success rates everywhere
        choices = choose_by_question(study, study.arms[0])
        wrong += any(choice.is_separated for choice in choices)
    assert wrong <= 1
