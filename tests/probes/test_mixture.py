"""The aggregation gap on closed forms, and as the minimum that it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hydrometer.probes.mixture import compute_gaps


def random_logprobs(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(scale=2.0, size=shape)).log_softmax(-1)


def mean_kl(p: torch.Tensor, q: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_I w_I KL(p || q_I), summed as it is written."""
    return sum(w * (p.exp() * (p - one)).sum(-1) for w, one in zip(weights, q, strict=True))  # type: ignore[return-value]


def test_two_bernoulli_distributions_give_their_bhattacharyya_distance() -> None:
    a, b = np.array([0.9, 0.1]), np.array([0.3, 0.7])
    q = torch.from_numpy(np.log(np.stack([a, b])))[:, None]
    found = compute_gaps(q[0], q, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert found.disagreement.item() == pytest.approx(-np.log(np.sqrt(a * b).sum()))
    assert found.student_kl.item() == pytest.approx(0.5 * (a * np.log(a / b)).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), contexts=st.integers(1, 4))
def test_it_is_the_least_mean_kl_and_the_loss_splits(seed: int, contexts: int) -> None:
    rng = np.random.default_rng(seed)
    q, p = random_logprobs(rng, contexts, 3, 6), random_logprobs(rng, 3, 6)
    weights = torch.from_numpy(rng.dirichlet(np.ones(contexts)))
    found = compute_gaps(p, q, weights)
    best = (weights[:, None, None] * q).sum(0).log_softmax(-1)
    assert torch.allclose(mean_kl(best, q, weights), found.disagreement, atol=1e-12)
    assert torch.allclose(mean_kl(p, q, weights), found.student_kl, atol=1e-12)
    to_best = (p.exp() * (p - best)).sum(-1)
    assert torch.allclose(to_best + found.disagreement, found.student_kl, atol=1e-12)
    for scale in (1e-3, 0.1, 1.0):
        other = (best + scale * torch.from_numpy(rng.normal(size=best.shape))).log_softmax(-1)
        assert (mean_kl(other, q, weights) >= found.disagreement - 1e-12).all()


def test_it_is_zero_where_all_contexts_agree_and_only_there() -> None:
    rng = np.random.default_rng(1)
    one = random_logprobs(rng, 4, 5)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    assert compute_gaps(one, torch.stack([one] * 3), weights).disagreement.abs().max() < 1e-12
    apart = one.clone()
    apart[2] = random_logprobs(rng, 5)
    gaps = compute_gaps(one, torch.stack([one, one, apart]), weights).disagreement
    assert gaps[2] > 1e-3
    assert gaps[[0, 1, 3]].abs().max() < 1e-12


def test_gradient_descent_on_the_mean_kl_ends_at_it() -> None:
    rng = np.random.default_rng(2)
    q, weights = random_logprobs(rng, 3, 1, 5), torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = mean_kl(logits.log_softmax(-1), q, weights).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    least = float(mean_kl(logits.log_softmax(-1), q, weights).detach())
    assert least == pytest.approx(float(compute_gaps(q[0], q, weights).disagreement), abs=1e-9)


def test_tokens_that_the_student_excludes_do_not_count() -> None:
    q = torch.tensor([[[0.5, 0.3, 0.2]], [[0.2, 0.2, 0.6]]], dtype=torch.float64).log()
    p = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log()
    found = compute_gaps(p, q, torch.tensor([0.5, 0.5], dtype=torch.float64))
    expected = 0.5 * (np.log(0.5 / 0.5) + np.log(0.5 / 0.3)) / 2 + 0.5 * np.log(0.5 / 0.2)
    assert found.student_kl.item() == pytest.approx(expected)
