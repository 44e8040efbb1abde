"""Products inside `fast_matmul`: as exact as outside, and nothing stays changed."""

import pytest
import torch

from hydrometer import matmul
from hydrometer.matmul import fast_matmul

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
