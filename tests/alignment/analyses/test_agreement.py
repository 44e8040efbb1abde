"""Advantage against cosine by loops and scipy; the shared noise shows in one variant only."""

import numpy as np
import pytest
from plain_reference import node_quantities
from scipy import stats

from hydrometer.alignment.analyses.agreement import advantage_against_cosine


def arm_of(study, teacher="sage"):
    return next(arm for arm in study.arms if (arm.teacher, arm.objective) == (teacher, "reverse_kl"))


def test_same_rollouts_by_loops(make_tables, study_of):
    tables = make_tables(questions=8)
    study = study_of(tables)
    found = advantage_against_cosine(study, arm_of(study))["same_rollouts"]
    nodes = [n for n in node_quantities(tables, "reverse_kl", "sage").values() if n["cosine"] is not None]
    a, c = ([float(f"{n[name]:.11e}") for n in nodes] for name in ("advantage", "cosine"))
    assert found["n_nodes"] == len(nodes)
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(a, c).statistic)
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(a, c).statistic)
    signed = [(n["weight"], n["advantage"] > 0, n["cosine"] > 0) for n in nodes if abs(n["advantage"]) > 1e-12]
    total = sum(w for w, *_ in signed)
    agree = sum(w for w, x, y in signed if x == y) / total
    up_a, up_c = sum(w for w, x, _ in signed if x) / total, sum(w for w, _, y in signed if y) / total
    chance = up_a * up_c + (1 - up_a) * (1 - up_c)
    assert found["sign_agreement"]["value"] == pytest.approx(agree)
    assert found["by_chance"]["value"] == pytest.approx(chance)
    assert found["excess"]["value"] == pytest.approx(agree - chance)


def test_noise_alone_agrees_with_itself_but_not_across_halves(make_tables, study_of):
    tables = make_tables(questions=60, paths=4, candidates=2, visits=9, gains=(0.0, 0.0), noise=1.0, seed=4)
    rng = np.random.default_rng(0)
    n = tables.candidates["visits"].to_numpy()
    first = (n + 1) // 2
    a, b = rng.binomial(first, 0.5), rng.binomial(n - first, 0.5)
    rate = (a + b) / n
    noisy = tables.candidates.with_columns(successes_a=a, successes_b=b, successes=a + b, success_rate=rate)
    study = study_of(tables._replace(candidates=noisy))
    found = advantage_against_cosine(study, arm_of(study))
    assert found["same_rollouts"]["excess"]["value"] > 0.4
    low, high = found["split"]["excess"]["interval"]
    assert low < 0.0 < high
    assert abs(found["split"]["excess"]["value"]) < 0.1
