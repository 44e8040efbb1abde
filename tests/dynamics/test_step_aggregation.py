"""The metrics of a step against sums written out by hand, and the table that describes them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_records import random_logprobs, random_tokens

from hydrometer.dynamics import (
    METRICS,
    StudentStats,
    TokenStats,
    aggregate,
    build_bin_starts,
    compute_student_stats,
    compute_token_stats,
    describe_metrics,
    find_metric,
)
from hydrometer.types import Rollout

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
TEACHER_LOGPROB = (-1.0, -2.0, -3.0, -1.0, -1.0, -0.5, -0.5, -4.0)
STUDENT_LOGPROB = (-2.0, -2.0, -1.0, -1.0, -3.0, -1.5, -0.5, -2.0)


def _rollout(*token_ids: int, correct: bool, truncated: bool = False, text: str = "") -> Rollout:
    return Rollout("q", 0, "base", token_ids, text, float(correct), correct, truncated)


ROLLOUTS = (
    _rollout(1, 1, 1, 1, 1, correct=True, text="as the reference says"),
    _rollout(4, 5, correct=False, truncated=True),
    _rollout(6, correct=False),
)


def _stats(**columns: Any) -> TokenStats:
    """Eight tokens, all 0 but what is given."""
    zeros = torch.zeros(8, dtype=torch.float64)
    given = {"teacher_logprob": TEACHER_LOGPROB, "student_logprob": STUDENT_LOGPROB, **columns}
    values = {
        name: torch.tensor(given[name], dtype=zeros.dtype) if name in given else zeros for name in TokenStats._fields
    }
    return TokenStats(**(values | {"teacher_rank": torch.tensor([1, 2, 3, 4, 51, 1, 1, 9])}))


def test_a_step_written_out() -> None:
    found = aggregate(
        _stats(
            student_entropy=(1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0),
            teacher_entropy=(0.0, 1.0, 2.5, 0.0, 0.0, 0.0, 0.0, 1.0),
            reverse_kl=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
            overlap_token_advantage=(-0.5, math.nan, -0.1, math.nan, math.nan, math.nan, math.nan, math.nan),
        ),
        ROLLOUTS,
        bin_starts=(0, 1, 3, 9),
    )
    expected = {
        "teacher_logprob": -13 / 8,
        "student_logprob": -13 / 8,
        "teacher_minus_student_logprob": 0.0,
        "teacher_rank": 72 / 8,
        "entropy_gap": 2.5 / 8,
        "student_entropy": 0.5,
        "overlap_token_advantage": -0.3,
        "repeat_ratio": 2 / 8,
        "teacher_logprob_repeated": -1.0,
        "teacher_logprob_other": -11 / 6,
        "student_logprob_repeated": -2.0,
        "teacher_minus_student_logprob_repeated": 1.0,
        "teacher_minus_student_logprob_other": -2 / 6,
        "teacher_rank_repeated": 27.5,
        "teacher_rank_other": 17 / 6,
        "response_tokens_mean": 8 / 3,
        "truncated_share": 1 / 3,
        "referring_share": 1 / 3,
        "accuracy": 1 / 3,
        "sequence_reward_correct_mean": 1 / 5,
        "sequence_reward_incorrect_mean": (0.5 - 2.0) / 2,
        "sequence_reward_auroc": 0.5,
        "teacher_nll_bin_0": (1.0 + 0.5 + 4.0) / 3,
        "teacher_nll_bin_1": (2.0 + 3.0 + 0.5) / 3,
        "teacher_nll_bin_2": 1.0,
        "reverse_kl_bin_0": (1 + 6 + 8) / 3,
        "reverse_kl_bin_1": (2 + 3 + 7) / 3,
        "reverse_kl_bin_2": 4.5,
        "student_entropy_bin_1": 2 / 3,
        "teacher_entropy_bin_1": 3.5 / 3,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert {found[f"{name}_bin_3"] for name in ("teacher_nll", "reverse_kl", "student_entropy")} == {None}


def test_what_is_infinite_or_unknown_is_none_and_never_zero() -> None:
    infinite, unknown = [0.0] * 8, [1.0] * 8
    infinite[3], unknown[3] = math.inf, math.nan
    teacher = [-1.0] * 8
    teacher[0] = -math.inf
    found = aggregate(
        _stats(
            forward_kl=infinite, reverse_kl=unknown, teacher_logprob=teacher, overlap_token_advantage=[math.nan] * 8
        ),
        ROLLOUTS,
        bin_starts=(0, 1),
    )
    assert found["forward_kl"] is None
    assert found["reverse_kl"] == 1.0
    assert found["overlap_token_advantage"] is None
    assert found["teacher_logprob"] is None
    assert found["teacher_nll_bin_0"] is None
    assert found["teacher_nll_bin_1"] == 1.0
    assert found["sequence_reward_correct_mean"] is None
    assert found["sequence_reward_auroc"] == 0.0
    json.dumps(found, allow_nan=False)


def test_without_a_teacher_or_without_outcomes() -> None:
    student = StudentStats(*(torch.full((8,), value) for value in (-1.5, 0.25, 0.75)))
    found = aggregate(student, ROLLOUTS, bin_starts=(0, 4), graded=False)
    known = {name for name, value in found.items() if value is not None}
    assert known == {
        *("student_logprob", "student_logprob_repeated", "student_logprob_other", "student_entropy"),
        *("student_topk_mass", "repeat_ratio", "response_tokens_mean", "truncated_share", "referring_share"),
        *("student_entropy_bin_0", "student_entropy_bin_1"),
    }
    assert found["student_topk_mass"] == 0.75
    graded = aggregate(student, ROLLOUTS, bin_starts=(0, 4))
    assert graded["accuracy"] == pytest.approx(1 / 3)
    assert graded["sequence_reward_auroc"] is None


def test_one_class_only_has_no_auroc() -> None:
    found = aggregate(_stats(), (*ROLLOUTS[1:], _rollout(*range(5), correct=False)), bin_starts=(0,))
    assert found["accuracy"] == 0.0
    assert found["sequence_reward_auroc"] is None
    assert found["sequence_reward_correct_mean"] is None
    assert found["sequence_reward_incorrect_mean"] is not None


def test_a_step_without_tokens() -> None:
    nothing = torch.zeros(0, 5)
    stats = compute_token_stats(nothing, nothing, torch.zeros(0, dtype=torch.long), k=2)
    found = aggregate(stats, [_rollout(correct=False)], bin_starts=(0, 16))
    assert found["response_tokens_mean"] == 0.0
    assert found["accuracy"] == 0.0
    assert found["reverse_kl"] is None
    none = aggregate(compute_student_stats(nothing, torch.zeros(0, dtype=torch.long), k=2), [], bin_starts=(0,))
    assert set(none.values()) == {None}


def test_order_of_rollouts_does_not_matter() -> None:
    lengths = (3, 0, 7, 5)
    student, teacher, tokens = random_logprobs(1, 15, 6), random_logprobs(2, 15, 6), random_tokens(3, 15, 6)
    stats = compute_token_stats(student, teacher, tokens, k=2)
    ends = np.cumsum(lengths)
    ids = [tuple(tokens[end - length : end].tolist()) for end, length in zip(ends, lengths, strict=True)]
    rollouts = [_rollout(*own, correct=number % 2 == 0) for number, own in enumerate(ids)]
    order = (2, 1, 3, 0)
    rows = torch.cat([torch.arange(ends[number] - lengths[number], ends[number]) for number in order])
    moved = TokenStats(*(column[rows] for column in stats))
    first = aggregate(stats, rollouts, bin_starts=(0, 2, 4))
    assert first["sequence_reward_auroc"] is not None
    assert aggregate(moved, [rollouts[number] for number in order], bin_starts=(0, 2, 4)) == pytest.approx(first)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="the 7 tokens of 2 rollouts, got those of 8"):
        aggregate(_stats(), ROLLOUTS[:2], bin_starts=(0,))
    for starts in ((), (1, 2), (0, 4, 4)):
        with pytest.raises(ValueError, match="start at 0 and ascend"):
            aggregate(_stats(), ROLLOUTS, bin_starts=starts)


@pytest.mark.parametrize(
    ("longest", "starts"), [(1, (0,)), (16, (0,)), (17, (0, 16)), (96, (0, 16, 32, 64)), (128, (0, 16, 32, 64))]
)
def test_bins_double(longest: int, starts: tuple[int, ...]) -> None:
    assert build_bin_starts(longest) == starts


def test_every_name_is_in_the_table_and_every_entry_is_whole() -> None:
    found = aggregate(_stats(), ROLLOUTS, bin_starts=build_bin_starts(200))
    for name in found:
        assert find_metric(name).meaning
    of_the_loop = {"loss", "gradient_norm", "learning_rate", "gap_recovery"}
    of_the_loop |= {"taught_share", "weighted_share", "rule_share", "advice_matched_share"}
    made_here = {name for name in METRICS if "*" not in name} - of_the_loop
    assert made_here == {name for name in found if "_bin_" not in name}
    for metric in METRICS.values():
        assert "|" not in metric.meaning
        assert metric.meaning.endswith(".")
    with pytest.raises(KeyError):
        find_metric("overlap")


def test_the_page_is_the_table() -> None:
    """To refresh: python -c "from hydrometer import dynamics; print(dynamics.describe_metrics(), end='')"."""
    assert PAGE.read_text(encoding="utf-8") == describe_metrics()
