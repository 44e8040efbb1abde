from itertools import product

import numpy as np
from scipy.stats import kstest

from hydrometer.sampling import rollout_seed, uniforms


def test_every_rollout_of_every_run_has_a_seed_of_its_own():
    ids = ["q", "q1", "1", "", "\x1f", "1\x1fq", "\ud800"]
    keys = list(product(range(6), ids, range(40)))
    seeds = {rollout_seed(run, question, rollout) for run, question, rollout in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_do_not_move_between_versions():
    assert rollout_seed(0, "diagnose-0000", 0) == SEED_OF_FIRST_ROLLOUT
    assert uniforms(SEED_OF_FIRST_ROLLOUT, 2).tolist() == FIRST_NUMBERS


SEED_OF_FIRST_ROLLOUT = 638184031346694901
FIRST_NUMBERS = [0.34850361241677075, 0.33101916815867305]


def test_a_longer_limit_keeps_the_numbers_already_there():
    np.testing.assert_array_equal(uniforms(77, 500)[:13], uniforms(77, 13))


def test_numbers_of_neighbouring_seeds_are_uniform_and_independent():
    numbers = np.stack([uniforms(seed, 50) for seed in range(200)])
    assert kstest(numbers.ravel(), "uniform").pvalue > 1e-4
    correlation = np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(numbers.size)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
