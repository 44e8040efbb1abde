"""Correlations against scipy, their intervals against a loop that deletes questions and ranks again."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hydrometer.alignment import complete_nodes, compute_alignment
from hydrometer.alignment.analyses.predictors import PREDICTORS, predict_alignment
from hydrometer.alignment.choice import Arm

ARMS = [Arm("sage", "reverse_kl", (), False, (1, 0)), Arm("fool", "reverse_kl", (), False, (0, 0))]


def tables_of(make_tables, **options):
    tables = make_tables(objectives=("reverse_kl",), **options)
    nodes = complete_nodes(tables.nodes, tables.candidates)
    return nodes, compute_alignment(
        nodes, tables.candidates, tables.teacher_scores, tables.token_scores, objectives=["reverse_kl"]
    )


def digits(values):
    """Twelve digits: a cosine of two candidates is +-1 only up to rounding, and those are ties."""
    return np.array([float(f"{value:.11e}") for value in values])


def pick(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def joined(alignment, nodes):
    keys = ["question_id", "rollout_id", "position", "continuation"]
    return alignment.join(nodes.select(*keys, "student_entropy_nats"), on=keys)


@pytest.mark.parametrize("response", ["cosine", "signal"])
@pytest.mark.parametrize(("method", "function"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
def test_within_a_teacher_it_is_scipy_and_the_interval_deletes_questions(make_tables, response, method, function):
    nodes, alignment = tables_of(make_tables, questions=9)
    per_arm, _ = predict_alignment(alignment, nodes, ARMS, "student")
    rows = joined(alignment, nodes).filter(pl.col(response).is_not_null(), teacher="sage")
    for predictor in PREDICTORS:
        found = pick(per_arm, teacher="sage", response=response, method=method, predictor=predictor)
        assert found["value"] == pytest.approx(function(digits(rows[response]), digits(rows[predictor])).statistic)
        assert found["n_nodes"] == rows.height
        copies = []
        for question in rows["question_id"].unique().sort():
            left = rows.filter(pl.col("question_id") != question)
            copies.append(function(digits(left[response]), digits(left[predictor])).statistic)
        q = len(copies)
        error = math.sqrt((q - 1) / q * sum((copy - np.mean(copies)) ** 2 for copy in copies))
        reach = found["value"] - found["interval"][0]
        assert reach >= stats.t.ppf(0.975, q - 1) * error * (1 - 1e-9) or found["interval"][0] == -1.0
        assert reach < 3 * stats.t.ppf(0.975, q - 1) * error


def test_pooled_within_and_between_by_loops(make_tables):
    nodes, alignment = tables_of(make_tables, questions=7, teachers=("a", "b", "c", "d"), gains=(2.0, 1.0, -1.0, 0.5))
    arms = [Arm(name, "reverse_kl", (), False, (i, 0)) for i, name in enumerate("abcd")]
    _, across = predict_alignment(alignment, nodes, arms, "student")
    rows = joined(alignment, nodes).filter(pl.col("signal").is_not_null())
    teachers = rows["teacher"].to_numpy()
    for predictor in ("reverse_kl_nats", "l2"):
        x, y = digits(rows["signal"]), digits(rows[predictor])
        for method in ("spearman", "pearson"):
            found = pick(across, response="signal", method=method, predictor=predictor)
            if method == "spearman":
                own = [stats.spearmanr(x[teachers == t], y[teachers == t]).statistic for t in "abcd"]
                rx, ry = stats.rankdata(x), stats.rankdata(y)
            else:
                own = [np.corrcoef(x[teachers == t], y[teachers == t])[0, 1] for t in "abcd"]
                rx, ry = x, y
            assert found["within"]["value"] == pytest.approx(np.mean(own))
            assert found["n_teachers_positive"] == sum(value > 0 for value in own)
            assert found["pooled"]["value"] == pytest.approx(np.corrcoef(rx, ry)[0, 1])
            means = np.array([[r[teachers == t].mean() for t in "abcd"] for r in (rx, ry)])
            assert found["between"]["value"] == pytest.approx(np.corrcoef(means)[0, 1])
    same = pick(across, response="signal", method="pearson", predictor="depth_frac")["between"]
    assert (same["value"], same["reason"]) == (None, "the_same_for_every_teacher")


def planted(slope_within, slope_between, seed=3):
    """Four teachers; the divergence predicts the signal one way within them and another way between them."""
    rng = np.random.default_rng(seed)
    rows, nodes = [], []
    for question in range(12):
        for position in range(10):
            key = {"question_id": f"q{question:02d}", "rollout_id": 1, "position": position, "continuation": "student"}
            nodes.append(key | {"student_entropy_nats": rng.random()})
            for number, teacher in enumerate("abcd"):
                here = rng.standard_normal()
                value = slope_between * number + slope_within * here + 0.3 * rng.standard_normal()
                kl = 2.0 * number + here
                rows.append(
                    key
                    | {"teacher": teacher, "objective": "o", "cosine": None, "signal": value, "reverse_kl_nats": kl}
                    | {"l2": 1.0, "distribution_cosine": None, "depth_frac": position / 10}
                )
    overrides = {"cosine": pl.Float64, "distribution_cosine": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=overrides), pl.DataFrame(nodes)


def test_simpsons_paradox_is_told_where_it_is_and_only_there():
    arms = [Arm(name, "o", (), False, (i, 0)) for i, name in enumerate("abcd")]
    for slope_between, expected in ((-2.0, ["pooled", "between"]), (1.0, [])):
        alignment, nodes = planted(0.5, slope_between)
        per_arm, across = predict_alignment(alignment, nodes, arms, "student")
        found = pick(across, response="signal", method="spearman", predictor="reverse_kl_nats")
        assert (found["contradicted_by"], found["clear"]) == (expected, bool(expected))
        assert found["n_teachers_positive"] == 4
        constant = pick(per_arm, teacher="a", response="signal", method="pearson", predictor="l2")
        assert (constant["value"], constant["reason"]) == (None, "no_variation")
        absent = pick(per_arm, teacher="a", response="signal", method="pearson", predictor="distribution_cosine")
        assert (absent["value"], absent["reason"]) == (None, "no_values")
        assert pick(per_arm, teacher="a", response="cosine", method="pearson", predictor="depth_frac")["n_nodes"] == 0


def test_two_teachers_have_no_between(make_tables):
    nodes, alignment = tables_of(make_tables, questions=6)
    _, across = predict_alignment(alignment, nodes, ARMS, "student")
    found = pick(across, response="signal", method="pearson", predictor="l2")["between"]
    assert (found["value"], found["reason"]) == (None, "fewer_than_3_teachers")
