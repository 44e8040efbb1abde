"""Repeats, sequence rewards, AUROC, gap recovery and talk of a reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from step_records import PROPERTY

from hydrometer.dynamics import (
    compute_auroc,
    compute_gap_recovery,
    compute_referring_share,
    compute_repeat_mask,
    compute_sequence_rewards,
    refers_to_reference,
)
from hydrometer.tasks.chain_text import REFERENCE_REMARK


@pytest.mark.parametrize(
    ("tokens", "repeated"),
    [
        ((1, 2, 3, 4, 2, 3, 4, 5), [6]),
        ((7, 7, 7, 7, 7), [3, 4]),
        ((1, 2, 1, 2, 1, 2), [4, 5]),
        ((1, 2), []),
        ((), []),
        ((1, 2, 3, 1, 2, 4, 1, 2, 3), [8]),
    ],
)
def test_the_repeat_mask_marks_the_end_of_a_returning_trigram(tokens: tuple[int, ...], repeated: list[int]) -> None:
    assert np.flatnonzero(compute_repeat_mask(tokens)).tolist() == repeated


@PROPERTY
@given(tokens=st.lists(st.integers(0, 3), max_size=25), n=st.integers(1, 4))
def test_the_repeat_mask_equals_a_search_through_everything_before(tokens: list[int], n: int) -> None:
    expected = [
        end >= n - 1 and any(tokens[end - n + 1 : end + 1] == tokens[e - n + 1 : e + 1] for e in range(n - 1, end))
        for end in range(len(tokens))
    ]
    assert compute_repeat_mask(tokens, n).tolist() == expected


def test_sequence_rewards_are_means_over_ragged_responses() -> None:
    log_ratio = np.array([1.0, 3.0, -2.0, np.nan, 5.0])
    rewards = compute_sequence_rewards(log_ratio, np.array([0, 0, 2, 2, 4]), 6)
    np.testing.assert_allclose(rewards, [2.0, np.nan, -2.0, np.nan, 5.0, np.nan])


@PROPERTY
@given(
    correct=st.lists(st.integers(-3, 3), min_size=1, max_size=8),
    incorrect=st.lists(st.integers(-3, 3), min_size=1, max_size=8),
)
def test_auroc_equals_mann_whitney_and_counting_pairs(correct: list[int], incorrect: list[int]) -> None:
    values = np.array([*correct, *incorrect], dtype=np.float64)
    is_correct = np.arange(len(values)) < len(correct)
    pairs = [(a > b) + (a == b) / 2 for a in correct for b in incorrect]
    expected = mannwhitneyu(correct, incorrect).statistic / len(pairs)
    found = compute_auroc(values, is_correct)
    assert found == pytest.approx(float(np.mean(pairs)))
    assert found == pytest.approx(expected)


def test_auroc_needs_both_classes() -> None:
    values = np.array([0.1, 0.2, np.nan])
    assert compute_auroc(values, np.array([True, True, True])) is None
    assert compute_auroc(values, np.array([True, True, False])) is None
    assert compute_auroc(values, np.array([False, True, False])) == 1.0


def test_gap_recovery() -> None:
    assert compute_gap_recovery(0.4, 0.7, 0.9) == pytest.approx(0.6)
    assert compute_gap_recovery(0.4, 0.3, 0.9) == pytest.approx(-0.2)
    assert compute_gap_recovery(0.6, 0.5, 0.4) == pytest.approx(0.5)
    assert compute_gap_recovery(0.5, 0.7, 0.5) is None


@pytest.mark.parametrize(
    "text",
    [
        REFERENCE_REMARK,
        "As the solution states, x is 4.",
        "This matches the reference.",
        "Looking at the provided answer, it must be B.",
        "The solution above uses induction.",
        "like your hint says",
        "The answer I was given is 12.",
    ],
)
def test_talk_of_a_reference_is_heard(text: str) -> None:
    assert refers_to_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 12.",
        "The solution of the equation is x = 4.",
        "None of the given answer choices fits, so A.",
        "Given the rule above, step 2 gives 7.",
        "As the solutions approach zero",
        "",
    ],
)
def test_ordinary_reasoning_is_not(text: str) -> None:
    assert not refers_to_reference(text)


def test_the_share_of_responses_that_refer() -> None:
    assert compute_referring_share(["plain", "as the reference says", "plain", "plain"]) == 0.25
    assert compute_referring_share([]) is None
