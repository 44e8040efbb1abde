"""Inner products from the outcomes of paths: exact in expectation, by enumeration of tokens and outcomes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrometer.alignment.arrays import centre
from hydrometer.alignment.outcomes import question_shares, taken_scores
from hydrometer.alignment.wording import where_to_spend


def node(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (the last token is no candidate), success rates and two arms' fields."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(4)), rng.random(4), rng.standard_normal((2, 3))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2.0, 2.0))
def test_the_expectation_over_tokens_and_outcomes_is_the_inner_product(seed: int, baseline: float) -> None:
    probabilities, rates, fields = node(seed)
    weights, mass = probabilities[:3] / probabilities[:3].sum(), probabilities[:3].sum()
    directions = centre(weights, np.array(mass), fields)
    ideal = centre(weights, np.array(mass), rates[:3])
    found = np.zeros(2)
    for token, (p, success) in enumerate(zip(probabilities, rates, strict=True)):
        taken = np.array(token if token < 3 else -1)
        pull = taken_scores(weights, directions, taken)
        found += p * pull * (success * (1.0 - baseline) + (1.0 - success) * (0.0 - baseline))
    np.testing.assert_allclose(found, directions @ ideal, atol=1e-12)


def test_a_token_that_is_no_candidate_says_nothing() -> None:
    weights, directions = np.array([[0.5, 0.5]]), np.array([[[0.2, -0.2]]])
    assert taken_scores(weights, directions, np.array([-1])).tolist() == [[0.0]]
    assert taken_scores(weights, directions, np.array([1])).tolist() == [[pytest.approx(-0.2)]]


def test_the_share_between_questions_is_that_of_a_one_way_layout() -> None:
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(3000), 4)
    between, within = rng.standard_normal((2, 3000)), rng.standard_normal((2, 12000))
    totals = np.stack([between[0][question] + 2.0 * within[0], 0.0 * between[1][question] + within[1]])
    shares = question_shares(totals, question)
    # var of a total of 4 paths: 16 x 1 between, 4 x 4 within
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[1] == pytest.approx(0.0, abs=0.05)
    assert question_shares(np.ones((1, 8)), np.repeat([0, 1], 4)).tolist() == pytest.approx([np.nan], nan_ok=True)
    assert np.isnan(question_shares(np.ones((1, 3)), np.array([0, 1, 2]))).all()
    assert "more --paths do not" in where_to_spend(0.7)
    assert "90% of its variance lies within" in where_to_spend(0.1)
    assert where_to_spend(float("nan")) == ""
