import time
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrometer.success.tree import VISIT_SCHEMA, PrefixTree

TOKENS = st.integers(0, 2)
RESPONSES = st.lists(TOKENS, min_size=1, max_size=6).map(tuple)


@st.composite
def counted_specs(draw):
    """(kind, token_ids, forced_tokens, correct) of a rollout that may be counted."""
    token_ids = draw(RESPONSES)
    forced = draw(st.integers(0, len(token_ids)))
    return ("branch" if forced else "base", token_ids, forced, draw(st.booleans()))


def reference_visits(paths, rollouts):
    """The definition, read literally: (path, position, token) -> [(rollout_id, correct)]."""
    found = defaultdict(list)
    for path in paths:
        for position in range(len(path.token_ids)):
            for y in rollouts:
                same = y.token_ids[:position] == path.token_ids[:position]
                if len(y.token_ids) > position and same and y.forced_tokens <= position + 1:
                    found[path.rollout_id, position, y.token_ids[position]].append((y.rollout_id, y.correct))
    return {key: sorted(visits) for key, visits in found.items()}


def grow(paths, rollouts):
    tree = PrefixTree("q")
    for path in paths:
        tree.add_path(path)
    for y in rollouts:
        tree.count(y)
    return tree


@settings(deadline=None, max_examples=150)
@given(
    st.lists(RESPONSES, min_size=1, max_size=4),
    st.lists(counted_specs(), max_size=25),
    st.randoms(use_true_random=False),
)
def test_tree_matches_the_definition(rollout, path_tokens, specs, random):
    paths = [rollout(i, "path", tokens) for i, tokens in enumerate(path_tokens)]
    rollouts = [
        rollout(100 + i, kind, tokens, correct, forced_tokens=forced)
        for i, (kind, tokens, forced, correct) in enumerate(specs)
    ]
    expected = reference_visits(paths, rollouts)
    random.shuffle(rollouts)
    tree = grow(paths, rollouts)
    for path in paths:
        for position in range(len(path.token_ids)):
            outcomes = tree.outcomes(path.rollout_id, position)
            assert set(outcomes) == {t for p, at, t in expected if (p, at) == (path.rollout_id, position)}
            for token in range(3):
                visits = expected.get((path.rollout_id, position, token), [])
                assert tree.visits(path.rollout_id, position, token) == len(visits)
                if visits:
                    got = outcomes[token]
                    assert list(zip(got.rollout_ids.tolist(), got.correct.tolist(), strict=True)) == visits
                    assert got.visits == len(visits)
                    assert got.successes == sum(correct for _, correct in visits)
    rows = [("q", *key, *visit) for key, visits in sorted(expected.items()) for visit in visits]
    log = tree.visit_log()
    assert log.schema == pl.Schema(VISIT_SCHEMA)
    assert log.rows() == rows


def test_a_forced_rollout_counts_from_its_last_forced_token_on(rollout):
    path = rollout(0, "path", (1, 2, 1, 2))
    branch = rollout(1, "branch", (1, 2, 1, 0), True, forced_tokens=2)
    tree = grow([path], [branch])
    assert [tree.visits(0, position, token) for position, token in enumerate(branch.token_ids)] == [0, 1, 1, 1]
    assert dict(tree.branches) == {1: 1}


def test_shared_prefixes_share_nodes_and_their_visits(rollout):
    tree = grow([rollout(0, "path", (1, 2, 1)), rollout(1, "path", (1, 2, 2, 0))], [rollout(2, "base", (1, 2, 2, 0))])
    assert tree.node(0, 2) == tree.node(1, 2)
    assert tree.visits(0, 2, 2) == tree.visits(1, 2, 2) == 1
    assert tree.visits(1, 3, 0) == 1
    assert tree.path_lengths == {0: 3, 1: 4}
    assert tree.visit_log().height == 3 + 4


def test_halves_alternate_by_rollout_id_whatever_the_order_of_counting(rollout):
    order = [17, 11, 13, 19, 12]
    tree = grow([rollout(0, "path", (1, 0))], [rollout(i, "base", (1, 0), i in (11, 13)) for i in order])
    a, b = tree.outcomes(0, 0)[1].halves()
    assert a.rollout_ids.tolist() == [11, 13, 19]
    assert b.rollout_ids.tolist() == [12, 17]
    assert (a.successes, b.successes) == (2, 0)


def test_paths_and_demonstrations_are_never_counted(rollout):
    for kind in ("path", "demo"):
        with pytest.raises(ValueError, match=f"of kind '{kind}'; only base and branch"):
            grow([rollout(0, "path", (1, 0))], [rollout(1, kind, (1, 0))])


def test_what_does_not_belong_is_refused_and_leaves_no_trace(rollout):
    tree = grow([rollout(0, "path", (1, 0))], [rollout(1, "base", (1, 0))])
    before = tree.visit_log()
    refused = [
        (rollout(2, "base", (1, 0), question_id="other"), "is of question other"),
        (rollout(1, "base", (1, 0)), "Rollout 1 of question q is in the tree already"),
        (rollout(0, "base", (1, 0)), "Rollout 0 of question q is in the tree already"),
        (rollout(2, "base", (1, 0), model="expert"), "continued by 'expert'; this tree counts 'student'"),
        (rollout(2, "base", (1, 0), forced_tokens=1), "has 1 forced tokens, not 0 to 0"),
        (rollout(2, "branch", (1, 0)), "has 0 forced tokens, not 1 to 2"),
        (rollout(2, "branch", (1, 0), forced_tokens=3), "has 3 forced tokens, not 1 to 2"),
    ]
    for bad, message in refused:
        with pytest.raises(ValueError, match=message):
            tree.count(bad)
    assert tree.counted == 1
    assert tree.visit_log().equals(before)
    assert not tree.branches


def test_paths_come_first_once_and_from_the_same_question(rollout):
    tree = grow([rollout(0, "path", (1, 0))], [])
    with pytest.raises(ValueError, match="kind 'path', got 'base'"):
        tree.add_path(rollout(1, "base", (1, 0)))
    with pytest.raises(ValueError, match="in the tree already"):
        tree.add_path(rollout(0, "path", (1, 0)))
    with pytest.raises(ValueError, match="is of question other"):
        tree.add_path(rollout(1, "path", (1, 0), question_id="other"))
    tree.count(rollout(2, "base", (1, 0)))
    with pytest.raises(ValueError, match="add paths first"):
        tree.add_path(rollout(3, "path", (1, 0)))


def test_unknown_nodes_are_refused(rollout):
    tree = grow([rollout(4, "path", (1, 0))], [])
    with pytest.raises(ValueError, match=r"no path 5 \(paths: \[4\]\)"):
        tree.visits(5, 0, 1)
    for position in (-1, 2):
        with pytest.raises(ValueError, match=f"positions 0 to 1, got {position}"):
            tree.visits(4, position, 1)


def test_another_model_continues_in_a_tree_of_its_own(rollout):
    tree = PrefixTree("q", model="expert")
    tree.add_path(rollout(0, "path", (1, 0)))
    tree.count(rollout(1, "base", (1, 0), True, model="expert"))
    assert tree.outcomes(0, 0)[1].successes == 1
    with pytest.raises(ValueError, match="continued by 'student'; this tree counts 'expert'"):
        tree.count(rollout(2, "base", (1, 0)))


def test_an_empty_tree_has_an_empty_log(rollout):
    log = grow([rollout(0, "path", (1, 0))], []).visit_log()
    assert log.schema == pl.Schema(VISIT_SCHEMA)
    assert log.height == 0


def test_a_hundred_thousand_rollouts_cost_seconds_and_no_nodes(rollout):
    rng = np.random.default_rng(0)
    paths = [rollout(i, "path", tuple(rng.integers(0, 3, 60).tolist())) for i in range(8)]
    tails = rng.integers(0, 3, (100_000, 60)).tolist()
    forced = rng.integers(1, 60, 100_000).tolist()
    rollouts = [
        rollout(100 + i, "branch", paths[i % 8].token_ids[: n - 1] + tuple(tail[n - 1 :]), forced_tokens=n)
        for i, (n, tail) in enumerate(zip(forced, tails, strict=True))
    ]
    start = time.perf_counter()
    tree = grow(paths, rollouts)
    tree.visit_log()
    assert time.perf_counter() - start < 15
    assert max(tree.node(path, position) for path in range(8) for position in range(60)) < 8 * 60 + 8
