"""Fieller intervals against inverting the test point by point, and orders without a unit."""

import numpy as np
import pytest

from hydrometer.alignment.choice import Arm, Evidence, rank_arms, score_arms
from hydrometer.alignment.intervals import Jackknife, jackknife, student_quantile
from hydrometer.alignment.metrics import METRICS, TERMS, ideal_length, pooled_signal
from hydrometer.alignment.unit import fieller_interval


def evidence(
    questions: int, cosines: tuple[float, ...], noise: float, length: float, seed: int, *, apart: bool = True
) -> Evidence:
    """Sums of questions whose |g|^2 has this mean and noise."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((questions, len(cosines), len(TERMS)))
    sums[..., TERMS.index("nodes")] = 10.0
    sums[..., TERMS.index("direction_square")] = rng.uniform(0.5, 1.5, size=sums.shape[:2])
    inner = np.array(cosines) + 0.3 * rng.standard_normal(sums.shape[:2])
    sums[..., TERMS.index("inner")] = inner
    sums[..., TERMS.index("ideal_square")] = (length + noise * rng.standard_normal(questions))[:, None]
    arms = tuple(Arm(name, "reverse_kl", (), False, (i, 0)) for i, name in enumerate("abcdef"[: len(cosines)]))
    return Evidence(arms, sums, 10, 0, 0, (), apart)


def parts(data: Evidence) -> tuple[Jackknife, Jackknife]:
    """Signal and length."""
    everywhere = np.ones(data.sums.shape[:2], dtype=bool)
    signal, length = (jackknife(statistic, data.sums, everywhere) for statistic in (pooled_signal, ideal_length))
    return signal, length


@pytest.mark.parametrize("confidence", [0.95, 0.99])
@pytest.mark.parametrize("seed", range(9))
def test_the_set_of_all_ratios_that_a_test_allows(seed: int, confidence: float) -> None:
    top, bottom = parts(evidence(12, (0.5, 0.1, -0.4), noise=0.15 + 0.25 * (seed % 3), length=1.0, seed=seed))
    low, high = fieller_interval(top, bottom, confidence=confidence)
    if not np.isfinite(bottom.left_out).all():
        assert np.isnan(low).all()
        return
    ratios = np.linspace(-1.0, 1.0, 4001)
    own, other = top.left_out - top.left_out.mean(0), bottom.left_out - bottom.left_out.mean(0)
    reach, of_unit = (student_quantile(top.left_out, level) for level in (confidence, 0.95))
    for arm in range(3):
        moved = reach[arm] * own[:, arm, None] - ratios * of_unit[arm] * other[:, arm, None]
        allowed = np.sqrt(11 / 12 * (moved**2).sum(0))
        inside = ratios[np.abs(top.value[arm] - ratios * bottom.value[arm]) <= allowed]
        same_sign = inside[inside * top.value[arm] >= 0.0]
        held = inside if (inside == 0.0).any() else same_sign
        assert low[arm] == pytest.approx(held.min(), abs=1e-3)
        assert high[arm] == pytest.approx(held.max(), abs=1e-3)


def test_without_a_unit_arms_keep_an_order_and_have_no_score() -> None:
    data = evidence(40, (0.6, 0.0), noise=0.1, length=-0.2, seed=3)
    ranking = rank_arms(data, epsilon=0.02, rng=np.random.default_rng(0))
    lines = {line.arm.teacher if line.arm else "none": line for line in ranking.lines}
    assert ranking.lines[0] is lines["a"] and ranking.recommended is lines["a"]
    assert np.isnan(lines["a"].score) and lines["a"].interval is None and lines["a"].reason == "no_unit"
    assert lines["none"].score == 0.0 and lines["none"].reason is None
    assert lines["a"].p_within_epsilon > 0.99
    assert score_arms(data, epsilon=0.02).epsilon == 0.0


def test_the_noise_of_the_unit_moves_neither_order_nor_probability() -> None:
    rough, exact = (evidence(30, (0.6, 0.2), noise=noise, length=1.0, seed=5) for noise in (0.8, 0.0))
    at_same = rough._replace(sums=rough.sums.copy())
    at_same.sums[..., TERMS.index("ideal_square")] = exact.sums[..., TERMS.index("ideal_square")]
    found = [score_arms(data, epsilon=0.02) for data in (rough, at_same)]
    np.testing.assert_array_equal(found[0].estimate, found[1].estimate)
    np.testing.assert_array_equal(found[0].deviations, found[1].deviations)
    known = ideal_length(rough.sums.sum(0))[0]
    assert found[0].epsilon == pytest.approx(0.02 * known)
    np.testing.assert_allclose(found[0].score[:2], METRICS["pooled_cosine"].value(rough.sums.sum(0)))
    # at the same estimate of the unit, only its noise widens the interval
    widths = []
    for data in (rough, at_same):
        signal, length = parts(data)
        low, high = fieller_interval(signal, length)
        widths.append(float((high - low)[0] * length.value[0]))
    assert widths[0] > 1.02 * widths[1]
