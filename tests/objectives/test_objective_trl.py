"""TRL's generalized JSD loss as an outside oracle."""

import warnings
from collections.abc import Callable

import pytest
import torch
from objective_cases import random_pair
from torch import Tensor

from hydrometer import objectives


@pytest.fixture(scope="module")
def generalized_jsd_loss() -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gkd = pytest.importorskip("trl.experimental.gkd")
    return gkd.GKDTrainer.generalized_jsd_loss


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_value_and_gradient_equal_trl(generalized_jsd_loss: Callable[..., Tensor], beta: float) -> None:
    """TRL's `batchmean` with labels divides by the number of unmasked positions, as ours does."""
    pair = random_pair(17, vocab=9, shape=(3, 5))
    response_mask = torch.arange(5) < torch.tensor([[5], [2], [0]])
    labels = torch.where(response_mask, 1, -100)
    theirs, ours = (pair.student.clone().requires_grad_() for _ in range(2))
    expected = generalized_jsd_loss(theirs, pair.teacher, labels=labels, beta=beta)
    loss = objectives.make("jsd", beta=beta).loss(ours, pair.teacher, response_mask=response_mask)
    expected.backward()
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    assert ours.grad is not None and ours.grad.abs().max() > 1e-3
