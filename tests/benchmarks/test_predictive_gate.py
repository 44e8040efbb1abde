"""What a gate would have stopped, on made cells."""

import numpy as np
import polars as pl

from benchmarks.predictive_cells import CELLS
from benchmarks.predictive_gate import GATE, RANKED_BY, describe_gate, gated_regret, stopped_cells
from benchmarks.predictive_results import Gain
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
