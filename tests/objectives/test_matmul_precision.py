"""Products inside `fast_matmul`: as exact as outside, and nothing stays changed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hydrometer import matmul
from hydrometer.matmul import fast_matmul, without_fast_matmul

CPU = torch.device("cpu")


def test_products_stay_in_float32() -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(130, 300, generator=generator), torch.randn(300, 70, generator=generator)
    exact = left.double() @ right.double()
    with fast_matmul(CPU):
        found = left @ right
    assert float((found - exact).norm() / exact.norm()) < 1e-6, "bfloat16 would be at 3e-3"


def test_the_callers_precision_comes_back_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), fast_matmul(CPU):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("device", "is_exact"), [("cpu", False), ("meta", True)])
def test_nothing_changes_where_products_would_be_rounded_or_are_made_elsewhere(
    device: str, is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_is_exact", lambda: is_exact)
    with fast_matmul(torch.device(device)):
        assert torch.get_float32_matmul_precision() == "highest"


def test_it_is_used_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_is_exact", lambda: True)
    with fast_matmul(CPU):
        assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_function_is_left_out_forwards_and_backwards(is_exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_is_exact", lambda: is_exact)
    outside = "medium" if is_exact else "highest"
    seen: list[str] = []

    class Watched(torch.autograd.Function):
        """A product that notes how products are made where it and its gradient are computed."""

        @staticmethod
        def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
            ctx.save_for_backward(left, right)
            seen.append(torch.get_float32_matmul_precision())
            return left @ right

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
            left, right = ctx.saved_tensors
            seen.append(torch.get_float32_matmul_precision())
            (gradient,) = gradients
            return gradient @ right.T, left.T @ gradient

    first, second, third = (torch.randn(4, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    with fast_matmul(CPU):
        before = Watched.apply(first, second)
        found = without_fast_matmul(Watched.apply, before, third)
        after = Watched.apply(found, first)
    with fast_matmul(CPU):
        after.sum().backward(retain_graph=True)
    assert seen == [outside, "highest", outside, outside, "highest", outside]
    seen.clear()
    torch.autograd.grad(after.sum(), [first])
    assert [*seen, torch.get_float32_matmul_precision()] == ["highest"] * 4, "a backward pass outside stays outside"
    expected = torch.autograd.grad((first @ second @ third @ first).sum(), [first, second, third])
    for one, wanted in zip((first, second, third), expected, strict=True):
        torch.testing.assert_close(one.grad, wanted)
