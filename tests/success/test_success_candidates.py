import polars as pl
import pytest

from hydrometer.artifacts.schemas import TABLES
from hydrometer.success.candidates import add_success, count_visits
from hydrometer.success.tree import PrefixTree


@pytest.fixture
def tree(rollout):
    tree = PrefixTree("q")
    tree.add_path(rollout(0, "path", (1, 1, 0)))
    tree.add_path(rollout(1, "path", (1, 2, 0)))
    for i, (tokens, correct) in enumerate(
        [((1, 1), True), ((1, 2), False), ((1, 1), True), ((2,), True), ((1, 1), False)]
    ):
        tree.count(rollout(10 + i, "base", tokens, correct))
    return tree


def test_counts_and_halves_from_the_log(tree):
    counts = count_visits(tree.visit_log().sample(fraction=1.0, shuffle=True, seed=4))
    first = counts.filter((pl.col("position") == 0) & (pl.col("token_id") == 1))
    # Rollouts 10, 11, 12, 14 (correct: yes, no, yes, no) on both paths: a = 10, 12; b = 11, 14.
    assert (
        first.select("visits", "successes", "visits_a", "successes_a", "visits_b", "successes_b").rows()
        == [(4, 2, 2, 2, 2, 0)] * 2
    )
    deeper = counts.filter((pl.col("position") == 1) & (pl.col("token_id") == 1))
    # Rollouts 10, 12, 14 (yes, yes, no): a = 10, 14; b = 12.
    assert deeper.drop("question_id", "rollout_id", "position", "token_id").rows() == [(3, 2, 2, 1, 1, 1)] * 2
    assert counts["visits"].sum() == tree.visit_log().height


def test_candidates_get_rates_and_unvisited_ones_get_nulls(tree):
    rows = [("q", 1, 1, 1), ("q", 0, 0, 2), ("q", 0, 0, 3)]
    keys = pl.DataFrame(rows, schema=["question_id", "rollout_id", "position", "token_id"], orient="row")
    table = add_success(keys, tree.visit_log())
    assert table.select(keys.columns).rows() == rows
    assert table["visits"].to_list() == [3, 1, 0]
    assert table["success_rate"].to_list() == [pytest.approx(2 / 3), 1.0, None]
    assert table["success_variance"].to_list() == [pytest.approx(2 / 3 / 3 / 2), None, None]
    assert table["success_high"].to_list()[1:] == [1.0, 1.0]
    assert table["success_low"].to_list()[2] == 0.0
    added = [name for name in table.columns if name not in keys.columns]
    assert {name: table.schema[name] for name in added}.items() <= TABLES["candidates"].items()
