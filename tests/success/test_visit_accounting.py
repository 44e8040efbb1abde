"""Counting forced rollouts for ancestors gives a wrong answer; the tree does not."""

from dataclasses import replace

import numpy as np
import pytest

from hydrometer.success.allocation import FixedVisits, PathCandidates, list_forcible
from hydrometer.success.tree import PrefixTree

A, B, RARE, COMMON, END = 1, 2, 3, 4, 0
P_A, P_RARE = 0.5, 0.05
S_RARE, S_COMMON, S_B = 1.0, 0.1, 0.5
S_A = P_RARE * S_RARE + (1 - P_RARE) * S_COMMON
"""0.145: what a rollout that starts with A is worth."""


def draw(rng, prefix):
    """Two choices, then the end: A or B; after A the rare token that always succeeds or the common one."""
    token_ids = prefix or (A if rng.random() < P_A else B,)
    if token_ids == (A,):
        token_ids = (A, RARE if rng.random() < P_RARE else COMMON)
    success = {(B,): S_B, (A, RARE): S_RARE, (A, COMMON): S_COMMON}[token_ids]
    return (*token_ids, END), bool(rng.random() < success)


def simulate(rng, rollout):
    """40 base rollouts, then 100 forced to the rare successful token below A."""
    path = rollout(0, "path", (A, COMMON, END))
    base = [rollout(1 + i, "base", *draw(rng, ())) for i in range(40)]
    enriched = [rollout(100 + i, "branch", *draw(rng, (A, RARE)), forced_tokens=2) for i in range(100)]
    return path, base + enriched


def rate_of_a(path, rollouts):
    tree = PrefixTree("q")
    tree.add_path(path)
    for y in rollouts:
        tree.count(y)
    outcome = tree.outcomes(0, 0)[A]
    return outcome.successes / outcome.visits


def test_enriching_a_rare_deep_token_leaves_the_ancestor_unbiased(rollout):
    rng = np.random.default_rng(11)
    ours, pooled = [], []
    for _ in range(500):
        path, rollouts = simulate(rng, rollout)
        ours.append(rate_of_a(path, rollouts))
        # The same rollouts with the forcing forgotten: every one counts for every ancestor.
        pooled.append(rate_of_a(path, [replace(y, kind="base", forced_tokens=0) for y in rollouts]))
    standard_error = np.std(ours) / np.sqrt(len(ours))
    assert standard_error < 0.005
    assert abs(np.mean(ours) - S_A) < 4 * standard_error
    assert np.mean(pooled) == pytest.approx((100 + 20 * S_A) / 120, abs=0.005)
    assert np.mean(pooled) > 0.85


def test_the_enriched_token_itself_gets_all_its_visits(rollout):
    path, rollouts = simulate(np.random.default_rng(3), rollout)
    tree = PrefixTree("q")
    tree.add_path(path)
    for y in rollouts:
        tree.count(y)
    on_policy = sum(y.kind == "base" and y.token_ids[:2] == (A, RARE) for y in rollouts)
    assert tree.visits(0, 1, RARE) == 100 + on_policy
    assert tree.outcomes(0, 1)[RARE].successes == 100 + on_policy


def test_topped_up_estimates_are_unbiased_at_every_node(model, rollout):
    """An adaptive allocation decides by visits only, so each estimate has the exact success rate as its mean."""
    rng = np.random.default_rng(8)
    path = model.rollout(np.random.default_rng(21), 0, "path")
    assert len(path.token_ids) >= 4
    prefixes = [path.token_ids[:position] for position in range(len(path.token_ids))]
    candidates = PathCandidates(
        rollout_id=0,
        position=np.repeat(np.arange(len(prefixes)), 4),
        token_id=np.tile(np.arange(4), len(prefixes)),
        student_prob=np.concatenate([model.probabilities(prefix) for prefix in prefixes]),
        priority_gradient=np.zeros(4 * len(prefixes)),
        priority_difference=np.zeros(4 * len(prefixes)),
    )
    estimates: dict[tuple[int, int], list[float]] = {}
    for _ in range(250):
        tree = PrefixTree("q")
        tree.add_path(path)
        for i in range(1, 13):
            tree.count(model.rollout(rng, i, "base"))
        listed = list_forcible(tree, [candidates])
        while branches := FixedVisits(6).next_round(tree, listed, limit=16):
            for branch in branches:
                prefix = (*path.token_ids[: branch.position], branch.token_id)
                for _ in range(branch.count):
                    tree.count(model.rollout(rng, 1 + tree.counted, "branch", prefix))
        for position in range(len(prefixes)):
            for token, outcome in tree.outcomes(0, position).items():
                assert outcome.visits >= 6
                estimates.setdefault((position, token), []).append(outcome.successes / outcome.visits)
    assert len(estimates) == 4 * len(prefixes)
    for (position, token), values in estimates.items():
        truth = model.success((*path.token_ids[:position], token))
        assert abs(np.mean(values) - truth) <= 4 * np.std(values) / np.sqrt(len(values)) + 1e-12
