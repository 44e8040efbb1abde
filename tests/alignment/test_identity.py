"""What is measured where a teacher continues, its bounds, and the difference that they have to account for."""

import math
from typing import Any

import polars as pl
import pytest

from hydrometer.alignment.identity import NODES_WERE_SAMPLED, NOT_TOLD_FROM_ZERO, Worlds, check_identity, path_sums

TOKENS = ((1, 0.5, 0.2, 0.25, True), (2, 0.3, 0.6, 0.75, True), (3, 0.1, 0.05, 0.0, False))
"""Token, p, q, success rate, whether it is kept."""


def worlds(*, node_weight: float = 1.0, questions: int = 1, teacher_right: int = 9, student_right: int = 4) -> Worlds:
    """One path of two positions: three candidates of which two are kept, then one that is not kept at all."""
    names = [f"q{number}" for number in range(questions)]
    nodes, candidates, said, tokens, own = [], [], [], [], []
    for name in names:
        key: dict[str, Any] = {"question_id": name, "rollout_id": 0}
        for position, weight in ((0, 1.0), (1, node_weight)):
            here = {**key, "position": position}
            nodes.append({**here, "continuation": "t", "path_weight": 1.0, "node_weight": weight})
            tokens.append({**here, "teacher": "t", "objective": "x", "total_variation": (0.45, 0.3)[position]})
        for token, p, q, rate, kept in (
            (1, 0.5, 0.2, 0.25, True),
            (2, 0.3, 0.6, 0.75, True),
            (3, 0.1, 0.05, 0.0, False),
        ):
            here = {**key, "position": 0, "token_id": token}
            row = {"continuation": "t", "student_logprob": math.log(p), "success_rate": rate, "kept": kept}
            candidates.append({**here, **row})
            said.append({**here, "teacher": "t", "teacher_logprob": math.log(q)})
        own += [
            {"question_id": name, "model": "t", "rollouts": 10, "correct": teacher_right},
            {"question_id": name, "model": "student", "rollouts": 8, "correct": student_right},
        ]
    return Worlds(*(pl.DataFrame(rows) for rows in (nodes, candidates, said, tokens, own)))


def test_sums_and_bounds_of_a_path_by_hand() -> None:
    [row] = path_sums(worlds(), "t").iter_rows(named=True)
    value = (0.5 * 0.25 + 0.3 * 0.75) / 0.8
    assert row["paths"] == 1.0
    assert row["measured"] == pytest.approx(0.2 * (0.25 - value) + 0.6 * (0.75 - value))
    raw = -0.3 * 0.25 + 0.3 * 0.75
    # of the total variation 0.45 at the first node, tokens kept account for 0.3 either way; nothing at the second
    assert row["low"] == pytest.approx(raw - 0.15 - 0.3)
    assert row["high"] == pytest.approx(raw + 0.15 + 0.3)


def test_the_difference_is_that_of_the_success_rates_from_their_own_prompts() -> None:
    [entry] = check_identity(worlds(questions=6), ["t", "a teacher that was skipped everywhere"])
    assert entry["teacher_value"]["value"] == pytest.approx(0.9)
    assert entry["student_value"]["value"] == pytest.approx(0.5)
    assert entry["difference"]["value"] == pytest.approx(0.4)
    assert entry["measured_share"]["value"] == pytest.approx(entry["measured"]["value"] / 0.4)
    assert entry["bounds"] == pytest.approx([0.15 - 0.45, 0.15 + 0.45])
    assert entry["holds"]


def test_a_difference_beyond_the_bounds_is_a_fault() -> None:
    [entry] = check_identity(worlds(questions=6, teacher_right=0, student_right=8), ["t"])
    assert entry["difference"]["value"] == pytest.approx(-1.0)
    assert entry["holds"] is False


def test_no_share_of_nothing_and_no_bounds_where_nodes_were_left_out() -> None:
    [entry] = check_identity(worlds(questions=6, teacher_right=5, node_weight=0.0), ["t"])
    assert entry["measured_share"]["value"] is None
    assert entry["measured_share"]["reason"] == NOT_TOLD_FROM_ZERO
    assert entry["bounds"] is None
    assert entry["bounds_reason"] == NODES_WERE_SAMPLED
    assert entry["holds"] is None


def test_paths_count_by_their_weight() -> None:
    one = worlds()
    doubled = one._replace(nodes=one.nodes.with_columns(path_weight=pl.lit(2.0)))
    [row], [twice] = (path_sums(world, "t").iter_rows(named=True) for world in (one, doubled))
    for name in ("paths", "measured", "low", "high"):
        assert twice[name] == pytest.approx(2.0 * row[name])
