import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrometer.errors import SpecError
from hydrometer.success.allocation import (
    Allocation,
    Branch,
    FixedVisits,
    OnPolicy,
    PathCandidates,
    Windowed,
    list_forcible,
)
from hydrometer.success.tree import PrefixTree


def candidates(rollout_id, rows) -> PathCandidates:
    """Rows of (position, token, student probability, gradient, difference)."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    position, token_id = (np.array(column, dtype=np.int64) for column in columns[:2])
    prob, gradient, difference = (np.array(column, dtype=np.float64) for column in columns[2:])
    return PathCandidates(rollout_id, position, token_id, prob, gradient, difference)


def grow(paths, rollouts=()):
    tree = PrefixTree("q")
    for path in paths:
        tree.add_path(path)
    for y in rollouts:
        tree.count(y)
    return tree


def play(tree, branches, paths, make_rollout, *, follow=0):
    """Answer branches with rollouts that go on along their path for `follow` tokens and then leave it."""
    tokens = {path.rollout_id: path.token_ids for path in paths}
    done = []
    for branch in branches:
        given_tokens = (*tokens[branch.path_id][: branch.position], branch.token_id)
        onward = tokens[branch.path_id][len(given_tokens) :][:follow]
        for _ in range(branch.count):
            y = make_rollout(
                1000 + tree.counted, "branch", (*given_tokens, *onward, 99), forced_tokens=len(given_tokens)
            )
            tree.count(y)
            done.append(y)
    return done


def run_to_end(strategy: Allocation, tree, listed, paths, make_rollout, *, limit, follow=0):
    rounds, done = [], []
    while branches := strategy.next_round(tree, listed, limit=limit):
        before = strategy.planned(tree, listed)
        assert 0 < sum(branch.count for branch in branches) <= limit
        done += play(tree, branches, paths, make_rollout, follow=follow)
        assert strategy.planned(tree, listed) < before
        rounds.append(branches)
        assert len(rounds) < 10_000
    return rounds, done


def two_way(positions, *, tokens=(1, 2)):
    """Two equally likely candidates per position, without priorities."""
    return [(position, token, 0.5, 0.0, 0.0) for position in positions for token in tokens]


def test_only_possible_tokens_at_branching_nodes_are_listed(rollout):
    path = rollout(0, "path", (1, 1, 1))
    rows = [
        (0, 1, 0.9, 0, 0),
        (0, 2, 0.1, 0, 0),
        (0, 3, 0.0, 9, 9),
        (1, 1, 1.0, 9, 9),
        (2, 1, 0.6, 0, 0),
        (2, 3, 0.0, 9, 9),
    ]
    listed = list_forcible(grow([path]), [candidates(0, rows)])
    assert list(zip(listed.position.tolist(), listed.token_id.tolist(), strict=True)) == [(0, 1), (0, 2)]


def test_shared_prefixes_are_listed_and_paid_once(rollout):
    paths = [rollout(7, "path", (1, 1, 1)), rollout(3, "path", (1, 2, 1))]
    tree = grow(paths)
    listed = list_forcible(tree, [candidates(7, two_way(range(3))), candidates(3, two_way(range(3)))])
    assert len(listed) == 2 + 2 + 2 + 2
    assert listed.path_id.tolist() == [3, 3, 3, 3, 3, 3, 7, 7]
    rounds, _ = run_to_end(FixedVisits(5), tree, listed, paths, rollout, limit=100)
    assert sum(branch.count for branches in rounds for branch in branches) == 8 * 5
    assert tree.visits(3, 1, 2) == tree.visits(7, 1, 2) == 5


def test_nothing_to_force_is_the_end(rollout):
    tree = grow([rollout(0, "path", (1, 1))])
    listed = list_forcible(tree, [candidates(0, [])])
    for strategy in (OnPolicy(), FixedVisits(3), Windowed(n_min=3, budget=10)):
        assert strategy.next_round(tree, listed, limit=5) == []
        assert strategy.planned(tree, listed) == 0


def test_on_policy_forces_nothing(rollout):
    tree = grow([rollout(0, "path", (1, 1))])
    listed = list_forcible(tree, [candidates(0, two_way(range(2)))])
    assert OnPolicy().next_round(tree, listed, limit=5) == []
    assert (OnPolicy().planned(tree, listed), OnPolicy().ceiling(100)) == (0, 0)


def test_fixed_visits_pays_only_what_is_missing(rollout):
    path = rollout(0, "path", (1, 1))
    base = [rollout(1 + i, "base", (1, 2)) for i in range(3)]
    tree = grow([path], base)
    listed = list_forcible(tree, [candidates(0, two_way(range(2)))])
    assert FixedVisits(4).planned(tree, listed) == 1 + 4 + 4 + 1
    assert FixedVisits(4).next_round(tree, listed, limit=100) == [
        Branch(0, 0, 1, 1),
        Branch(0, 0, 2, 4),
        Branch(0, 1, 1, 4),
        Branch(0, 1, 2, 1),
    ]
    assert FixedVisits(4).next_round(tree, listed, limit=7) == [
        Branch(0, 0, 1, 1),
        Branch(0, 0, 2, 4),
        Branch(0, 1, 1, 2),
    ]


def test_continuations_along_the_path_are_not_paid_twice(rollout):
    paths = [rollout(0, "path", (1,) * 6)]
    totals = {}
    for limit in (1, 1000):
        tree = grow(paths)
        listed = list_forcible(tree, [candidates(0, two_way(range(6)))])
        _, done = run_to_end(FixedVisits(4), tree, listed, paths, rollout, limit=limit, follow=9)
        assert min(tree.visits(0, position, token) for position in range(6) for token in (1, 2)) >= 4
        totals[limit] = len(done)
    assert totals == {1: 4 + 6 * 4, 1000: 2 * 6 * 4}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 5), st.integers(1, 30))
def test_fixed_visits_ends_with_every_pair_topped_up(rollout, visits, limit, follow, length):
    paths = [rollout(0, "path", (1, 2) * length), rollout(1, "path", (1, 1) * length)]
    tree = grow(paths)
    rows = two_way(range(2 * length))
    listed = list_forcible(tree, [candidates(0, rows), candidates(1, rows)])
    ceiling = FixedVisits(visits).ceiling(len(listed))
    _, done = run_to_end(FixedVisits(visits), tree, listed, paths, rollout, limit=limit, follow=follow)
    assert len(done) <= ceiling == len(listed) * visits
    assert (tree.visits_at(listed.node, listed.token_id) >= visits).all()


def spend(strategy, rows, length, make_rollout, *, limit=50, follow=0):
    paths = [make_rollout(0, "path", (1,) * length)]
    tree = grow(paths)
    listed = list_forcible(tree, [candidates(0, rows)])
    rounds, done = run_to_end(strategy, tree, listed, paths, make_rollout, limit=limit, follow=follow)
    return tree, rounds, [y.forced_tokens - 1 for y in done]


def by_window(positions, edges):
    return np.histogram(positions, bins=[*edges, 10**6])[0].tolist()


def test_windows_double_from_fifty_and_share_the_budget(rollout):
    _, rounds, positions = spend(Windowed(n_min=1000, budget=403), two_way(range(400)), 400, rollout)
    assert by_window(positions, [0, 50, 150, 350]) == [100, 101, 101, 101]
    order = [branch.position for branches in rounds for branch in branches]
    windows = np.searchsorted([50, 150, 350], order, side="right").tolist()
    assert windows == sorted(windows)


def test_boundaries_of_windows_are_exact(rollout):
    rows = two_way([49, 50, 149, 150])
    _, _, positions = spend(Windowed(n_min=1000, budget=300, batch=3), rows, 151, rollout)
    assert by_window(positions, [0, 50, 150]) == [100, 100, 100]
    assert set(positions) == {49, 50, 149, 150}


def test_windows_without_a_listed_pair_get_no_share(rollout):
    _, _, positions = spend(Windowed(n_min=1000, budget=100), two_way([0, 350]), 400, rollout)
    assert by_window(positions, [0, 50, 150, 350]) == [50, 0, 0, 50]


def test_what_a_window_leaves_goes_deeper_and_never_back(rollout):
    rows = two_way([3]) + two_way([60, 61, 62])
    tree, _, positions = spend(Windowed(n_min=10, budget=60, first_window=50), rows, 100, rollout)
    assert by_window(positions, [0, 50]) == [20, 40]
    assert tree.visits(0, 3, 1) == tree.visits(0, 3, 2) == 10
    rows = two_way([3, 4, 5]) + two_way([60])
    _, _, positions = spend(Windowed(n_min=10, budget=60), rows, 100, rollout)
    assert by_window(positions, [0, 50]) == [30, 20]


def test_the_largest_gradient_comes_first_and_the_difference_breaks_ties(rollout):
    rows = [
        (0, 1, 0.5, 0.1, 0.9),
        (0, 2, 0.5, 0.3, 0.1),
        (2, 1, 0.5, 0.3, 0.2),
        (2, 2, 0.5, 0.0, 1.0),
        (1, 1, 0.5, 0.1, 0.9),
        (1, 2, 0.5, 0.2, 0.0),
    ]
    _, rounds, _ = spend(Windowed(n_min=5, budget=23, batch=5), rows, 3, rollout, limit=7)
    flat = [(branch.position, branch.token_id, branch.count) for branches in rounds for branch in branches]
    assert flat == [(2, 1, 5), (0, 2, 2), (0, 2, 3), (1, 2, 4), (1, 2, 1), (0, 1, 5), (1, 1, 1), (1, 1, 2)]


def test_a_pair_gets_at_most_a_batch_a_round_and_n_min_in_all(rollout):
    tree, rounds, _ = spend(Windowed(n_min=10, budget=1000, batch=4), two_way([0]), 1, rollout, limit=100)
    assert [[branch.count for branch in branches] for branches in rounds] == [[4, 4], [4, 4], [2, 2]]
    assert tree.visits(0, 0, 1) == 10


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 300), st.integers(1, 6), st.integers(1, 9), st.integers(1, 60), st.integers(0, 4)
)
def test_windowed_keeps_its_budget_and_ends(rollout, n_min, budget, first_window, batch, limit, follow):
    strategy = Windowed(n_min=n_min, budget=budget, first_window=first_window, batch=batch)
    rows = [(position, token, 0.5, position % 3 / 10, token / 10) for position in range(25) for token in (1, 2)]
    tree, _, positions = spend(strategy, rows, 25, rollout, limit=limit, follow=follow)
    assert len(positions) <= strategy.ceiling(len(rows)) <= budget
    edges = [first_window * (2**i - 1) for i in range(5) if first_window * (2**i - 1) < 25]
    spent = np.cumsum(by_window(positions, edges))
    allowed = [budget * rank // len(edges) for rank in range(1, len(edges) + 1)]
    assert (spent <= allowed).all()
    if len(positions) < budget:
        last = range(edges[-1], 25)
        assert all(tree.visits(0, position, token) >= n_min for position in last for token in (1, 2))


@pytest.mark.parametrize("strategy", [FixedVisits(6), Windowed(n_min=6, budget=55, first_window=2, batch=4)])
def test_the_next_round_depends_on_what_was_counted_and_nothing_else(rollout, strategy):
    paths = [rollout(0, "path", (1, 2) * 5), rollout(1, "path", (1, 1) * 5)]
    parts = [candidates(0, two_way(range(10))), candidates(1, two_way(range(10)))]
    tree = grow(paths)
    listed = list_forcible(tree, parts)
    done = []
    rng = np.random.default_rng(0)
    while branches := strategy.next_round(tree, listed, limit=9):
        done += play(tree, branches, paths, rollout, follow=2)
        replayed = grow(paths[::-1], [done[i] for i in rng.permutation(len(done))])
        relisted = list_forcible(replayed, parts[::-1])
        expected = strategy.next_round(tree, listed, limit=9)
        assert strategy.next_round(replayed, relisted, limit=9) == expected
        assert strategy.planned(replayed, relisted) == strategy.planned(tree, listed)
    assert len(done) > 50


def test_options_below_one_are_refused_by_name():
    with pytest.raises(SpecError, match="'visits' of the allocation to be at least 1, got 0"):
        FixedVisits(0)
    with pytest.raises(SpecError, match="'budget' of the allocation to be at least 1, got -5"):
        Windowed(n_min=3, budget=-5)
