import numpy as np
import pytest
from scipy import stats

from hydrometer.alignment.intervals import difference, jackknife
from hydrometer.alignment.metrics import METRICS, TERMS


def mean_of(sums):
    return sums[..., 0] / sums[..., 1]


def everyone(sums):
    return np.ones(sums.shape[:-1], dtype=bool)


def test_jackknife_of_a_mean_is_the_textbook_interval_without_heavy_questions():
    values = np.random.default_rng(0).uniform(size=12)
    assert stats.kurtosis(values, bias=False) < 0.0
    sums = np.stack([values, np.ones(12)], axis=-1)
    result = jackknife(mean_of, sums, everyone(sums))
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(12))
    assert (float(result.low), float(result.high)) == pytest.approx((low, high))


def test_a_heavy_question_costs_degrees_of_freedom():
    values = np.array([0.1, 0.0, 0.2, 0.1, 0.15, 3.0, 0.05, 0.1])
    sums = np.stack([values, np.ones(8)], axis=-1)
    result = jackknife(mean_of, sums, everyone(sums))
    degrees = 7 / (1 + stats.kurtosis(values, bias=False) * 7 / 16)
    low, high = stats.t.interval(0.95, degrees, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(8))
    assert degrees < 2
    assert (float(result.low), float(result.high)) == pytest.approx((low, high))


def test_no_interval_below_five_questions():
    sums = np.stack([np.arange(4.0), np.ones(4)], axis=-1)
    result = jackknife(mean_of, sums, everyone(sums))
    assert result.value == pytest.approx(1.5) and np.isnan(result.low) and np.isnan(result.high)


def test_questions_without_a_node_do_not_count():
    values = np.array([1.0, 2.0, 4.0, 3.0, 2.5, 0.0, 0.0])
    has_node = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    sums = np.stack([values, has_node], axis=-1)
    whole, part = jackknife(mean_of, sums, has_node > 0), jackknife(mean_of, sums[:5], everyone(sums[:5]))
    assert int(whole.n_questions) == 5
    assert float(whole.low) == pytest.approx(float(part.low))


def test_a_leave_one_out_total_that_is_all_noise_takes_the_interval_but_not_the_value():
    sums = np.zeros((6, len(TERMS)))
    at = {name: TERMS.index(name) for name in ("inner", "ideal_square", "noise", "direction_square")}
    sums[:, at["inner"]] = 0.1
    sums[:, at["direction_square"]] = 1.0
    sums[:, at["noise"]] = 0.5
    sums[:, at["ideal_square"]] = 0.45
    sums[0, at["ideal_square"]] = 1.0
    metric = METRICS["pooled_cosine"]
    result = jackknife(metric.value, sums, everyone(sums), is_ratio=True)
    assert float(result.value) == pytest.approx(0.6 / np.sqrt(0.25 * 6.0))
    assert np.isnan(result.low)
    sums[0, at["ideal_square"]] = 0.6
    assert np.isnan(jackknife(metric.value, sums, everyone(sums), is_ratio=True).value)


def test_limits_cut_the_interval_but_never_the_estimate():
    values = np.array([0.9, 1.0, 0.95, 1.0, 0.7, 1.0])
    sums = np.stack([values, np.ones(6)], axis=-1)
    assert float(jackknife(mean_of, sums, everyone(sums), limits=(0.0, 1.0)).high) == 1.0
    beyond = np.stack([values + 0.3, np.ones(6)], axis=-1)
    result = jackknife(mean_of, beyond, everyone(beyond), limits=(0.0, 1.0))
    assert float(result.high) == float(result.value) > 1.0


def test_difference_of_paired_means_uses_the_pairs():
    rng = np.random.default_rng(1)
    base = rng.normal(size=10)
    first = np.stack([base + 1.0 + 0.01 * rng.normal(size=10), np.ones(10)], axis=-1)
    second = np.stack([base, np.ones(10)], axis=-1)
    parts = [jackknife(mean_of, sums, everyone(sums)) for sums in (first, second)]
    result = difference(*parts)
    gaps = first[:, 0] - second[:, 0]
    low, high = stats.t.interval(0.95, 9, loc=gaps.mean(), scale=gaps.std(ddof=1) / np.sqrt(10))
    assert (float(result.low), float(result.high)) == pytest.approx((low, high))
