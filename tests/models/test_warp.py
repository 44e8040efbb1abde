import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loops import softmax, warp_by_hand

from hydrometer.models import Warp, warp_logprobs

LOGITS = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=9)


@settings(deadline=None, max_examples=150)
@given(LOGITS, st.sampled_from((0.25, 1.0, 1.7)), st.sampled_from((0.05, 0.5, 0.77, 0.999, 1.0)))
def test_warped_probabilities_are_those_of_the_loop(logits: list[float], temperature: float, top_p: float):
    warp = Warp(temperature, top_p)
    found = warp_logprobs(torch.tensor(logits, dtype=torch.float64), warp).exp().tolist()
    assert found == pytest.approx(warp_by_hand(logits, warp), abs=1e-12)


def test_the_token_that_crosses_the_mass_is_in_and_the_next_is_out():
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64).log()
    # after 0.5 comes 0.25, which carries the mass over 0.6; after 0.75 comes 0.15, over 0.8
    assert warp_logprobs(logits, Warp(top_p=0.6)).exp().tolist() == pytest.approx([0.0, 2 / 3, 0.0, 1 / 3])
    assert warp_logprobs(logits, Warp(top_p=0.8)).exp().tolist() == pytest.approx([0.0, 5 / 9, 1 / 6, 5 / 18])
    assert warp_logprobs(logits, Warp(top_p=0.49)).exp().tolist() == pytest.approx([0.0, 1.0, 0.0, 0.0])
    assert warp_logprobs(logits, Warp(top_p=0.6))[0] == -math.inf


def test_among_equal_tokens_the_lower_id_is_in():
    assert warp_logprobs(torch.zeros(4), Warp(top_p=0.5)).exp().tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_no_warp_is_the_softmax_and_temperature_divides_the_logits():
    logits = [2.0, -1.0, 0.5]
    assert warp_logprobs(torch.tensor(logits), Warp()).exp().tolist() == pytest.approx(softmax(logits))
    halved = softmax([value / 2.0 for value in logits])
    assert warp_logprobs(torch.tensor(logits), Warp(temperature=2.0)).exp().tolist() == pytest.approx(halved)


def test_rows_of_a_batch_are_warped_apart():
    logits = torch.randn(3, 4, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    warp = Warp(0.8, 0.7)
    whole = warp_logprobs(logits, warp)
    for i in range(3):
        for j in range(4):
            assert whole[i, j].exp().tolist() == pytest.approx(warp_by_hand(logits[i, j].tolist(), warp), abs=1e-12)
