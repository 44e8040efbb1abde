"""The rule finds what is planted, out of fold, and claims nothing where there is nothing."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.advice import draw, verdict_of
from hydrometer.alignment.advice.judge import SKIP, TRAIN, UNDECIDED, judge
from hydrometer.alignment.advice.rule import apply_rule, fit_rule, predict_out_of_fold


def test_coefficients_are_ridge_regression_by_another_route():
    nodes = draw(np.random.default_rng(0), slope=0.03)
    rule = fit_rule(nodes)
    mean = np.average(nodes.features, axis=0, weights=nodes.weight)
    scale = np.sqrt(np.average((nodes.features - mean) ** 2, axis=0, weights=nodes.weight))
    z = (nodes.features - mean) / scale
    # a ridge penalty is extra rows of data: sqrt(lambda) e_k with target 0
    extra = np.sqrt(0.05 * nodes.weight.sum()) * np.eye(5)
    root = np.sqrt(nodes.weight)[:, None]
    design = np.concatenate([root * np.column_stack([np.ones(len(z)), z]), np.column_stack([np.zeros(5), extra])])
    target = np.concatenate([root[:, 0] * nodes.signal, np.zeros(5)])
    assert rule.coefficients == pytest.approx(np.linalg.lstsq(design, target, rcond=None)[0])


def test_no_node_is_predicted_by_its_own_question():
    nodes = draw(np.random.default_rng(1), slope=0.03)
    before = predict_out_of_fold(nodes)
    changed = nodes.signal + 5.0 * (nodes.question == 7)
    after = predict_out_of_fold(nodes._replace(signal=changed))
    same_fold = nodes.question % 10 == 7
    assert np.array_equal(before.signal[same_fold], after.signal[same_fold])
    assert np.abs(before.signal - after.signal)[~same_fold].min() > 0.0


def test_the_standard_error_covers_the_planted_line():
    rng = np.random.default_rng(2)
    at = np.array([[0.5, 0.3, 1.2, 0.5, 2.0]])
    misses = []
    for _ in range(150):
        rule = fit_rule(draw(rng, slope=0.0, level=0.01, questions=40))
        found = apply_rule(rule, at)
        misses.append(abs(found.signal[0] - 0.01) / found.error[0])
    assert 0.5 < np.mean(np.array(misses) < 1.0) < 0.8  # 0.68
    assert np.mean(np.array(misses) < 2.0) > 0.88  # 0.95


def test_a_planted_dependence_on_entropy_is_found_out_of_fold():
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(20):
        nodes = draw(rng, slope=0.03)
        verdict = verdict_of(nodes)
        found += (verdict.advice == TRAIN).any()
        high, low = nodes.features[:, 2] > 1.0, nodes.features[:, 2] < 0.4
        if (verdict.advice == TRAIN).any():
            assert (verdict.proposal[high] == TRAIN).mean() > 0.7
            assert (verdict.proposal[low] == SKIP).mean() > 0.7
    assert found >= 19
    fresh = draw(rng, slope=0.03, questions=200)
    chosen = apply_rule(fit_rule(nodes), fresh.features).signal > 0
    assert fresh.signal[chosen].mean() > 0.005 > -0.005 > fresh.signal[~chosen].mean()


@pytest.mark.parametrize("level", [0.0, 0.01, -0.01])
def test_where_nothing_predicts_the_signal_nothing_is_advised(level):
    """An arm that helps (or harms) alike everywhere is no reason to single tokens out."""
    rng = np.random.default_rng(4)
    runs = 150
    advised = sum((verdict_of(draw(rng, level=level)).advice != UNDECIDED).any() for _ in range(runs))
    assert advised <= 0.07 * runs


def test_the_verdict_by_loops():
    nodes = draw(np.random.default_rng(5), slope=0.03, questions=11)
    prediction = predict_out_of_fold(nodes)
    verdict = judge(nodes, prediction)

    def mean(chosen, left=-1):
        rows = [i for i in chosen if nodes.question[i] != left]
        return sum(nodes.weight[i] * nodes.signal[i] for i in rows) / sum(nodes.weight[i] for i in rows)

    everything = range(len(nodes.signal))
    train = [i for i in everything if prediction.signal[i] > prediction.error[i]]
    gain = mean(train) - mean(everything)
    copies = [mean(train, q) - mean(everything, q) for q in range(11)]
    error = np.sqrt(10 / 11 * sum((copy - np.mean(copies)) ** 2 for copy in copies))
    assert float(verdict.gain.value) == pytest.approx(gain)
    assert float(verdict.gain.low) == pytest.approx(gain - stats.t.ppf(0.975, 10) * error)
    assert [i for i in everything if verdict.proposal[i] == TRAIN] == train
    assert ((verdict.advice == TRAIN).any()) == (verdict.gain.low > 0.0 and verdict.mean_train.low > 0.0)
