import numpy as np
import pytest

from hydrometer.success.subsampling import draw_node_weights, inclusion_probabilities


def test_probabilities_follow_sizes_and_stop_at_one():
    assert inclusion_probabilities(np.array([1.0, 2.0, 3.0, 0.0]), 3).tolist() == [1.0, 1.0, 1.0, 0.0]
    np.testing.assert_allclose(inclusion_probabilities(np.array([1.0, 2.0, 5.0]), 1), [0.125, 0.25, 0.625])
    # 2 * 10 / 13 is above 1: the large node is certain and the others share the second draw
    np.testing.assert_allclose(inclusion_probabilities(np.array([1.0, 10.0, 2.0]), 2), [1 / 3, 1.0, 2 / 3])
    # the second becomes certain only once the first is
    np.testing.assert_allclose(inclusion_probabilities(np.array([100.0, 10.0, 1.0, 1.0]), 3), [1.0, 1.0, 0.5, 0.5])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_weighted_sums_are_unbiased_and_the_number_is_fixed(count):
    sizes = np.array([0.1, 3.0, 0.0, 1.0, 0.7, 0.2, 1.5, 0.4])
    chance = inclusion_probabilities(sizes, count)
    drawn = np.array([draw_node_weights(chance, np.random.default_rng(seed)) for seed in range(3000)])
    assert ((drawn > 0.0).sum(1) == count).all()
    assert not drawn[:, 2].any()
    error = np.sqrt((1.0 / np.maximum(chance, 1e-9) - 1.0) / len(drawn))
    others = np.arange(len(sizes)) != 2
    assert (np.abs(drawn.mean(0) - 1.0)[others] <= 4.5 * error[others] + 1e-12).all()
