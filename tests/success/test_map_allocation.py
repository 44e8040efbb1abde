import numpy as np
import pytest

from hydrometer.errors import SpecError
from hydrometer.success.allocation import Allocation, Map, PathCandidates, list_forcible
from hydrometer.success.tree import PrefixTree
from hydrometer.types import Rollout

PATH = Rollout("q", 0, "path", (1, 1, 1), "", 1.0, True, False)
RATES = {(0, 1): 0.9, (0, 2): 0.1, (1, 1): 0.5, (1, 2): 0.5, (2, 1): 0.5, (2, 2): 0.5}
"""By position and token; the third node is decided."""


def listed_tree():
    tree = PrefixTree("q")
    tree.add_path(PATH)
    position, token = np.repeat(np.arange(3), 2), np.tile([1, 2], 3)
    prob = np.array([0.5, 0.5, 0.5, 0.5, 0.99, 0.01])
    return tree, list_forcible(tree, [PathCandidates(0, position, token, prob, prob, prob)])


def play(tree, listed, strategy, limit, rng):
    """Branches leave the path behind their token and are right as often as the table says."""
    asked = []
    number = 1 + tree.counted
    while branches := strategy.next_round(tree, listed, limit=limit):
        assert sum(branch.count for branch in branches) <= limit
        for branch in branches:
            asked.append(branch)
            for _ in range(branch.count):
                ids = (*PATH.token_ids[: branch.position], branch.token_id, 9)
                right = bool(rng.random() < RATES[branch.position, branch.token_id])
                tree.count(Rollout("q", number, "branch", ids, "", float(right), right, False, 0, branch.position + 1))
                number += 1
    return asked


@pytest.mark.parametrize("limit", [24, 1000])
def test_rollouts_go_where_candidates_differ_and_never_to_decided_nodes(limit):
    spent = np.zeros((8, 3))
    for seed in range(8):
        tree, listed = listed_tree()
        play(tree, listed, Map(200), limit, np.random.default_rng(seed))
        spent[seed] = [sum(tree.visits(0, position, token) for token in (1, 2)) for position in range(3)]
    assert (spent[:, 2] == 0).all()
    assert (spent[:, 1] >= 8).all()
    # at the first node outcomes vary by 0.09 each: 2 x 200 x sqrt(4 x 0.09) = 240 visits; P follows there
    assert 190 <= spent[:, 0].mean() <= 280
    assert spent[:, 1].mean() < 0.95 * 400


def test_targets_start_small_and_at_most_double():
    node, prob = np.array([0, 0]), np.array([0.5, 0.5])
    zero = np.zeros(2, dtype=np.int64)
    assert Map(100).targets(node, prob, zero, zero).tolist() == [4, 4]
    assert Map(3).targets(node, prob, zero, zero).tolist() == [3, 3]
    assert Map(100).targets(node, prob, np.array([4, 4]), np.array([4, 0])).tolist() == [8, 8]
    assert Map(20).targets(node, prob, np.array([64, 64]), np.array([32, 32])).max() <= 20


def test_a_stopped_run_goes_on_with_the_same_branches():
    tree, listed = listed_tree()
    whole = play(tree, listed, Map(60), 10, np.random.default_rng(3))
    again, listed_again = listed_tree()
    rng = np.random.default_rng(3)
    first = Map(60).next_round(again, listed_again, limit=10)
    assert first == whole[: len(first)]
    assert Map(60).next_round(again, listed_again, limit=10) == first
    assert play(again, listed_again, Map(60), 10, rng) == whole
    assert Map(60).planned(tree, listed) == 0
    assert isinstance(Map(60), Allocation)
    assert Map(60).ceiling(7) == 420


def test_less_than_one_visit_is_refused():
    with pytest.raises(SpecError, match="'visits'"):
        Map(0)
