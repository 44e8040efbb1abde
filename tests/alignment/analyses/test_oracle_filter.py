"""Kept shares and signals by loops over candidate rows."""

import math
from collections import defaultdict

import pytest
from plain_reference import node_quantities

from hydrometer.alignment.analyses.oracle_filter import filter_by_cosine, weigh_positions


def half_signals(tables, teacher):
    """Per node: the signal from the first and from the second half of the rollouts, reverse KL."""
    scores = {
        (r["question_id"], r["rollout_id"], r["position"], r["token_id"]): r["field:reverse_kl"]
        for r in tables.teacher_scores.to_dicts()
        if r["teacher"] == teacher
    }
    rows = defaultdict(list)
    for r in tables.candidates.to_dicts():
        if r["kept"]:
            rows[r["question_id"], r["rollout_id"], r["position"]].append(r)
    out = {}
    for key, members in rows.items():
        p = [math.exp(r["student_logprob"]) for r in members]
        f = [scores[(*key, r["token_id"])] for r in members]
        w = [value / sum(p) for value in p]
        mean = sum(a * b for a, b in zip(w, f, strict=True))
        d = [a * (b - mean) for a, b in zip(p, f, strict=True)]
        length = math.sqrt(sum(value**2 for value in d))
        found = []
        for half in "ab":
            s = [r[f"successes_{half}"] / r[f"visits_{half}"] for r in members]
            centre = sum(a * b for a, b in zip(w, s, strict=True))
            g = [a * (b - centre) for a, b in zip(p, s, strict=True)]
            found.append(sum(a * b for a, b in zip(g, d, strict=True)) / length if length else 0.0)
        out[key] = found
    return out


def test_both_ways_by_loops(make_tables, study_of):
    tables = make_tables(questions=8, paths=2)
    study = study_of(tables)
    arm = next(arm for arm in study.arms if (arm.teacher, arm.objective) == ("sage", "reverse_kl"))
    positions = weigh_positions(tables.token_scores, tables.nodes, "student")
    weights = {(r["question_id"], r["rollout_id"], r["position"]): r for r in tables.nodes.to_dicts()}
    total = sum(r["path_weight"] * r["node_weight"] for r in weights.values())
    assert positions == {"sage": pytest.approx(total), "fool": pytest.approx(total)}
    entry = filter_by_cosine(study, arm, positions["sage"])

    nodes = node_quantities(tables, "reverse_kl", "sage")
    halves = half_signals(tables, "sage")
    naive = [(n["weight"], n["signal"], (n["cosine"] or 0.0) > 0.0) for n in nodes.values()]
    split = [(n["weight"], halves[key][1], (n["cosine_a"] or 0.0) > 0.0) for key, n in nodes.items()]
    split += [(n["weight"], halves[key][0], (n["cosine_b"] or 0.0) > 0.0) for key, n in nodes.items()]
    for way, rows in (("naive", naive), ("split", split)):
        kept = [(w, s) for w, s, chosen in rows if chosen]
        everything = sum(w for w, *_ in rows)
        share = sum(w for w, _ in kept) / everything
        mean = sum(w * s for w, s, _ in rows) / everything
        mean_kept = sum(w * s for w, s in kept) / sum(w for w, _ in kept)
        found = entry[way]
        assert found["kept_share"]["value"] == pytest.approx(share)
        assert found["mean_signal"]["value"] == pytest.approx(mean)
        assert found["mean_signal_kept"]["value"] == pytest.approx(mean_kept)
        assert found["gain"]["value"] == pytest.approx(mean_kept - mean)
        assert found["gain"]["interval"][0] < mean_kept - mean < found["gain"]["interval"][1]
        measured = sum(n["weight"] for n in nodes.values())
        assert found["kept_share_of_all_tokens"] == pytest.approx(share * measured / total)
