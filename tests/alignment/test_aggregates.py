import numpy as np
import pytest
from plain_reference import aggregate, node_quantities
from scipy import stats

from hydrometer.alignment import ObjectiveInfo
from hydrometer.alignment.arms import tabulate
from hydrometer.alignment.contributions import SPLITS
from hydrometer.alignment.metrics import METRICS
from hydrometer.alignment.reliability import split_half_reliability
from hydrometer.alignment.study import build_study

OBJECTIVES = {"reverse_kl": ObjectiveInfo("r"), "forward_kl": ObjectiveInfo("f")}
TEACHERS = ("fool", "sage")


@pytest.fixture(scope="module")
def tables(make_tables):
    return make_tables(questions=8, paths=3, seed=1)


@pytest.fixture(scope="module")
def study(tables):
    return build_study("student", tables.nodes, tables.candidates, tables.teacher_scores, OBJECTIVES)


def expected_nodes(tables, teacher, objective, split, without=None):
    nodes = node_quantities(tables, objective, teacher)
    return [
        node
        for key, node in nodes.items()
        if key[0] != without and (split == "all" or node["correct"] == (split == "correct"))
    ]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_every_aggregate_equals_plain_loops(tables, study, teacher, objective, split):
    expected = aggregate(expected_nodes(tables, teacher, objective, split))
    place = (SPLITS.index(split), TEACHERS.index(teacher), list(OBJECTIVES).index(objective))
    for name, metric in METRICS.items():
        table = tabulate(metric, study.sums)
        assert table.over_questions.value[place] == pytest.approx(expected[name], abs=1e-12), name
        assert table.plain[place] == pytest.approx(expected.get(f"{name} plain", expected[name]), abs=1e-12), name


def test_jackknife_equals_recomputing_without_each_question(tables, study):
    place = (0, TEACHERS.index("sage"), 0)
    questions = sorted({node[0] for node in node_quantities(tables, "reverse_kl", "sage")})
    copies = [aggregate(expected_nodes(tables, "sage", "reverse_kl", "all", without=q)) for q in questions]
    for name in ("mean_cosine", "weighted_cosine", "mean_advantage", "mean_signal"):
        values = np.array([copy[name] for copy in copies])
        error = np.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())
        result = tabulate(METRICS[name], study.sums).over_questions
        excess, count = max(0.0, stats.kurtosis(values, bias=False)), len(values)
        reach = stats.t.ppf(0.975, (count - 1) / (1 + excess * (count - 1) / (2 * count))) * error
        assert result.value[place] - reach == pytest.approx(result.low[place])
        assert min(result.value[place] + reach, METRICS[name].limits[1] if METRICS[name].limits else np.inf) == (
            pytest.approx(result.high[place])
        )


def test_pooled_interval_spans_both_scales(tables, study):
    place = (0, TEACHERS.index("sage"), 0)
    questions = sorted({node[0] for node in node_quantities(tables, "reverse_kl", "sage")})
    copies = [aggregate(expected_nodes(tables, "sage", "reverse_kl", "all", without=q)) for q in questions]
    values = np.array([copy["pooled_cosine"] for copy in copies])
    result = tabulate(METRICS["pooled_cosine"], study.sums).over_questions
    theta, count = float(result.value[place]), len(values)
    quantile = stats.t.ppf(0.975, count - 1)

    def spread(x):
        return np.sqrt((count - 1) / count * ((x - x.mean()) ** 2).sum())

    excess = max(0.0, stats.kurtosis(values, bias=False))
    plain = stats.t.ppf(0.975, (count - 1) / (1 + excess * (count - 1) / (2 * count))) * spread(values)
    scaled = quantile * spread(np.arctanh(values))
    ends = np.tanh([np.arctanh(theta) - scaled, np.arctanh(theta) + scaled])
    assert result.low[place] == pytest.approx(min(theta - plain, ends[0]))
    assert result.high[place] == pytest.approx(min(1.0, max(theta + plain, ends[1])))


def test_perfect_teacher_scores_one_at_infinite_visits(make_tables):
    tables = make_tables(seed=8)
    rates = tables.candidates["success_rate"]
    exact = tables.candidates.with_columns(success_variance=0.0 * rates)
    joined = tables.teacher_scores.join(
        exact.select("question_id", "rollout_id", "position", "token_id", "success_rate"),
        on=["question_id", "rollout_id", "position", "token_id"],
    )
    perfect = joined.with_columns((3.0 * joined["success_rate"] - 1.0).alias("field:reverse_kl"))
    study = build_study("student", tables.nodes, exact, perfect, {"reverse_kl": ObjectiveInfo("r")})
    for name in ("pooled_cosine", "mean_cosine", "fraction_positive"):
        assert METRICS[name].value(study.sums.sums.sum(0))[0] == pytest.approx(1.0), name
    against = perfect.with_columns(-perfect["field:reverse_kl"])
    study = build_study("student", tables.nodes, exact, against, {"reverse_kl": ObjectiveInfo("r")})
    for name, value in (("pooled_cosine", -1.0), ("mean_cosine", -1.0), ("fraction_positive", 0.0)):
        assert METRICS[name].value(study.sums.sums.sum(0))[0] == pytest.approx(value), name


def test_doubling_weights_of_a_path_equals_listing_it_twice(tables):
    first = tables.nodes["rollout_id"] == 100
    heavy = tables.nodes.with_columns(path_weight=tables.nodes["path_weight"] * (1.0 + first.cast(float)))
    copies = []
    for frame in (tables.nodes, tables.candidates, tables.teacher_scores):
        extra = frame.filter(frame["rollout_id"] == 100)
        copies.append(frame.vstack(extra.with_columns(rollout_id=extra["rollout_id"] + 900)))
    weighted = build_study("student", heavy, tables.candidates, tables.teacher_scores, OBJECTIVES)
    listed = build_study("student", *copies, OBJECTIVES)
    for name, metric in METRICS.items():
        one, two = (metric.value(study.sums.sums.sum(0)) for study in (weighted, listed))
        assert one == pytest.approx(two, abs=1e-12), name


def test_reliability_is_the_correlation_of_the_halves(tables, study):
    nodes = [
        node
        for node in expected_nodes(tables, "sage", "reverse_kl", "all")
        if node["cosine_a"] is not None and node["cosine_b"] is not None
    ]
    weight = np.array([node["weight"] for node in nodes])
    a, b = (np.array([node[f"cosine_{half}"] for node in nodes]) for half in "ab")
    covariance = np.cov(a, b, aweights=weight)
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    found = split_half_reliability(study.labels, study.half_a, study.half_b)["mean_cosine"]
    assert found[0, TEACHERS.index("sage"), 0] == pytest.approx(expected)


def test_value_at_half_the_visits_uses_one_half_alone(tables, study):
    nodes = expected_nodes(tables, "sage", "reverse_kl", "all")
    halves = []
    for half in "ab":
        known = [node for node in nodes if node[f"cosine_{half}"] is not None]
        halves.append(sum(n["weight"] * n[f"cosine_{half}"] for n in known) / sum(n["weight"] for n in known))
    found = tabulate(METRICS["mean_cosine"], study.sums).at_half_visits
    assert found is not None
    assert found[0, TEACHERS.index("sage"), 0] == pytest.approx(sum(halves) / 2)
