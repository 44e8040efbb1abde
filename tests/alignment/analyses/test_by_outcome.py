"""Correct against incorrect, by loops over node rows and by scipy's tests."""

import math

import numpy as np
import pytest
from plain_reference import aggregate, node_quantities
from scipy import stats

from hydrometer.alignment.analyses.by_outcome import compare_outcomes


def pick(rows, **wanted):
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def plain_difference(nodes, metric):
    correct, incorrect = ([n for n in nodes.values() if n["correct"] == outcome] for outcome in (True, False))
    return aggregate(correct)[metric] - aggregate(incorrect)[metric]


def test_the_clustered_comparison_by_loops(make_tables, study_of):
    tables = make_tables(questions=10, paths=1, positions=8, seed=5)
    rows = compare_outcomes(study_of(tables))
    nodes = node_quantities(tables, "reverse_kl", "sage")
    questions = sorted({key[0] for key in nodes})
    for metric in ("mean_cosine", "mean_advantage"):
        row = pick(rows, teacher="sage", objective="reverse_kl", metric=metric)
        value = plain_difference(nodes, metric)
        copies = [plain_difference({k: n for k, n in nodes.items() if k[0] != q}, metric) for q in questions]
        error = math.sqrt((len(copies) - 1) / len(copies) * sum((c - np.mean(copies)) ** 2 for c in copies))
        by_outcome = [len({k[0] for k, n in nodes.items() if n["correct"] == outcome}) for outcome in (True, False)]
        degrees = min(by_outcome) - 1
        assert row["clustered"]["value"] == pytest.approx(value)
        if degrees >= 4:
            assert row["clustered"]["interval"][1] == pytest.approx(value + stats.t.ppf(0.975, degrees) * error)
            assert row["clustered"]["p"] == pytest.approx(2 * stats.t.sf(abs(value) / error, degrees))
        assert row["n_questions_both"] == 0
        assert (row["paired"]["p"], row["paired"]["reason"]) == (None, "no_question_with_both_outcomes")
        assert row["clustered"]["p_holm"] is None or row["clustered"]["p_holm"] >= row["clustered"]["p"]


def test_the_paired_test_is_scipys_over_questions_with_both(make_tables, study_of):
    tables = make_tables(questions=14, paths=4, positions=4, seed=1)
    row = pick(compare_outcomes(study_of(tables)), teacher="fool", objective="forward_kl", metric="mean_advantage")
    nodes = node_quantities(tables, "forward_kl", "fool")
    differences = []
    for question in sorted({key[0] for key in nodes}):
        parts = [
            [(n["weight"], n["advantage"]) for k, n in nodes.items() if k[0] == question and n["correct"] == outcome]
            for outcome in (True, False)
        ]
        if all(parts):
            first, second = (sum(w * x for w, x in part) / sum(w for w, _ in part) for part in parts)
            differences.append(first - second)
    assert row["n_questions_both"] == row["paired"]["n_questions"] == len(differences)
    assert row["paired"]["p"] == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)
    assert row["paired"]["least_attainable_p"] == 2.0 ** (1 - len(differences))
    assert row["paired"]["median"] == pytest.approx(np.median(differences))


def test_references_are_not_tested(make_tables, study_of):
    rows = compare_outcomes(study_of(make_tables()))
    assert len(rows) == 2 * 2 * 3
    assert {row["clustered"]["family_size"] for row in rows} <= {0, 4}
