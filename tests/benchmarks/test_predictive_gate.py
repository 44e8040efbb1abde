"""What a gate would have stopped, on made cells."""

import numpy as np
import polars as pl
import pytest

from benchmarks.predictive_aggregates import replace_private
from benchmarks.predictive_cells import CELLS, PRIVATE
from benchmarks.predictive_gate import (
    GATE,
    RANKED_BY,
    asked_again,
    describe_gate,
    describe_leaders,
    gated_regret,
    stopped_cells,
)
from benchmarks.predictive_results import Gain, trained_scores
from hydrometer.evaluation.statistics import Estimate


def made_scores(ends: dict[int, tuple[float, float]]) -> pl.DataFrame:
    """Path sum (value, high) of some cells; all others stand at (0.2, 0.3). Cosines fall from cell to cell."""
    rows = []
    for place, cell in enumerate(CELLS):
        value, high = ends.get(place, (0.2, 0.3))
        for who in ("teacher", "student"):
            named = {**cell._asdict(), "continuation": who}
            rows.append(named | {"score": GATE, "value": value, "high": high})
            rows.append(named | {"score": RANKED_BY, "value": 0.9 - 0.01 * place, "high": 1.0})
    return pl.DataFrame(rows)


def test_rules_stop_by_the_interval_and_by_the_value() -> None:
    scores = made_scores({0: (-0.2, -0.1), 3: (-0.2, 0.1), 5: (0.0, 0.2)})
    below, not_above = stopped_cells(scores, "teacher").values()
    assert np.flatnonzero(below).tolist() == [0] and np.flatnonzero(not_above).tolist() == [0, 3, 5]


def test_barred_cells_cannot_lead_and_withheld_ones_not_win() -> None:
    score, gain = np.array([0.5, 0.4, 0.3, 0.2]), np.array([-0.3, 0.1, 0.2, 0.4])
    blocks, nobody = np.array([0, 0, 0, 1]), np.zeros(4, dtype=bool)
    first = np.array([True, False, False, False])
    assert gated_regret(score, gain, blocks, nobody, nobody) == np.mean([0.2 + 0.3, 0.0])
    assert gated_regret(score, gain, blocks, first, nobody) == np.mean([0.2 - 0.1, 0.0])
    assert gated_regret(score, gain, blocks, nobody, first) == np.mean([0.2, 0.0])
    assert gated_regret(score, gain, blocks, first, np.ones(4, dtype=bool)) == np.mean([0.2, 0.4])


def test_the_table_counts_what_was_stopped_rightly_and_wrongly() -> None:
    gain = np.full(len(CELLS), 0.1)
    gain[:4] = (-0.3, -0.2, -0.1, 0.2)
    gains = [
        Gain(cell, 0.5, 3, Estimate(value, value - 0.05, value + 0.05, 100))
        for cell, value in zip(CELLS, gain, strict=True)
    ]
    blocks = np.arange(len(CELLS)) // 7
    table = describe_gate(gains, gain, blocks, made_scores({0: (-0.2, -0.1), 1: (-0.1, 0.1), 3: (-0.1, 0.2)}))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[2:6] for row in rows[:3]] == [
        ["", "", "", ""],
        ["1", "1", "none", "2 of 3"],
        ["3", "2", f"`{CELLS[3].teacher}` in {CELLS[3].block}", "1 of 3"],
    ]
    assert [row[6] for row in rows[:3]] == ["12.5", "10.0", "5.0"]
    assert [row[2:] for row in rows[3:]] == [row[2:] for row in rows[:3]]


def test_those_asked_again_are_the_student_s_leaders_and_the_teachers_decide() -> None:
    scores = made_scores({4: (-0.3, -0.1)})
    mine = pl.col("score") == RANKED_BY
    order = {0: 0.1, 1: 0.6, 2: 0.9, 3: 0.2}
    for place, value in order.items():
        is_here = mine & (pl.col("continuation") == "teacher")
        for name, wanted in CELLS[place]._asdict().items():
            is_here &= pl.col(name) == wanted
        scores = scores.with_columns(value=pl.when(is_here).then(pl.lit(value)).otherwise(pl.col("value")))
    blocks = np.where(np.arange(len(CELLS)) < 5, 0, 1)
    gain = np.zeros(len(CELLS))
    gain[:5] = (0.1, 0.3, -0.2, 0.4, 0.5)
    # the student's order is 0, 1, 2, 3; 4 is below no teacher
    assert [asked_again(gain, blocks, scores, most)[0] for most in (1, 2, 3, 9)] == pytest.approx([0.4, 0.2, 0.7, 0.7])
    head, first = describe_leaders(gain, blocks, scores).splitlines()[::2][:2]
    assert "leaders asked again" in head and "40.0" in first


def test_replaced_scores_are_those_of_aggregates_and_of_nobody_else() -> None:
    scores = made_scores({}).with_columns(low=pl.lit(0.0))
    private = scores.filter(pl.col("teacher").is_in(PRIVATE))
    aggregates = private.with_columns(value=pl.lit(-0.5), reason=pl.lit(None))
    found = trained_scores(replace_private(scores, aggregates), f"{RANKED_BY}, teacher")
    is_private = np.array([cell.teacher in PRIVATE for cell in CELLS])
    assert is_private.sum() == 6
    assert (found[is_private] == -0.5).all()
    np.testing.assert_array_equal(found[~is_private], trained_scores(scores, f"{RANKED_BY}, teacher")[~is_private])
