"""Drawing from a table: where numbers fall, and that rounding never sends one off its end."""

import pytest
import torch

from hydrometer.sampling.drawing import draw_tokens

FIRST = torch.tensor([0])


@pytest.mark.parametrize("number", [0.0, 1e-300, 0.25, 0.5, 0.999999, 1.0 - 2.0**-53])
def test_a_number_falls_on_the_token_whose_share_of_the_line_it_lies_in(number: float):
    probs = [0.0, 0.25, 0.0, 0.25, 0.5, 0.0]
    expected = next(token for token in range(6) if number < sum(probs[: token + 1]))
    token_ids, logprobs = draw_tokens(torch.tensor([probs]).log(), FIRST, torch.tensor([number], dtype=torch.float64))
    assert token_ids.tolist() == [expected]
    assert logprobs.exp().tolist() == pytest.approx([probs[expected]], rel=1e-6)


def test_a_total_that_rounds_below_one_never_drops_off_the_end():
    probs = torch.full((1, 1000), 1.0 / 1000.0, dtype=torch.float32)
    logprobs = torch.cat([probs, torch.zeros(1, 3)], dim=1).log()
    token_ids, _ = draw_tokens(logprobs, FIRST, torch.tensor([1.0 - 2.0**-53], dtype=torch.float64))
    assert token_ids.tolist() == [999]


@pytest.mark.parametrize("vocab", [5, 256, 257, 3000])
def test_a_large_vocabulary_is_drawn_from_as_from_one_line(vocab: int):
    generator = torch.Generator().manual_seed(vocab)
    # shares that are whole multiples of 2^-20 add up without rounding, and whole stretches of them are 0
    shares = torch.randint(0, 2**20 // vocab, (1, vocab), generator=generator)
    shares[:, 300:900] = 0
    shares[:, 2::3] = 0
    shares[:, 0] += 2**20 - shares.sum()
    numbers = torch.rand(2000, generator=generator, dtype=torch.float64)
    expected = torch.searchsorted(shares[0].cumsum(0), (numbers * 2**20).floor().long(), right=True)
    logprobs = (shares.double() / 2**20).log()
    token_ids, drawn = draw_tokens(logprobs, torch.zeros(2000, dtype=torch.int64), numbers)
    # exp(log(x)) may miss x by one part in 2^52
    assert (token_ids != expected).sum() == 0
    assert (shares[0, token_ids] > 0).all()
    torch.testing.assert_close(drawn.exp(), shares[0, token_ids] / 2**20, check_dtype=False)
    singles = torch.cat([draw_tokens(logprobs, FIRST, numbers[i : i + 1])[0] for i in range(50)])
    assert torch.equal(singles, token_ids[:50])


def test_logits_need_no_normalising():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(64, 700, generator=generator) * 5
    numbers = torch.rand(64, generator=generator, dtype=torch.float64)
    shifted = logits + 300.0 * torch.randn(64, 1, generator=generator)
    token_ids, logprobs = draw_tokens(shifted, torch.arange(64), numbers)
    exact = logits.double().log_softmax(-1)
    expected = torch.searchsorted(exact.exp().cumsum(-1), numbers[:, None], right=True)
    assert torch.equal(token_ids, expected[:, 0])
    torch.testing.assert_close(logprobs, exact.gather(-1, expected)[:, 0], atol=2e-4, rtol=0.0, check_dtype=False)


def test_rows_draw_from_the_distribution_that_they_are_given_to():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(7, 300, generator=generator)
    history = torch.randint(7, (500,), generator=generator)
    numbers = torch.rand(500, generator=generator, dtype=torch.float64)
    shared = draw_tokens(logits, history, numbers)
    apart = draw_tokens(logits[history], torch.arange(500), numbers)
    assert torch.equal(shared[0], apart[0])
    torch.testing.assert_close(shared[1], apart[1], atol=1e-12, rtol=0.0)
