"""Float32 matrix products by oneDNN in place of MKL on a CPU, where that changes no more than the order of a sum.

torch hands float32 products to oneDNN once they are allowed to round to bfloat16. What oneDNN makes of the permission
depends on the processor: without instructions for it, products stay in float32. So one product is compared with float64
first; where it has been rounded, or where oneDNN is not there, nothing is changed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

_ROUNDING = 3e-6
"""Relative error that sums in float32 stay below (4e-7 here); bfloat16 is at 3e-3."""


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """Use it for products on this device until the end of the block."""
    if device.type != "cpu" or not _is_exact():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def without_fast_matmul(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` with torch's own products, there and in its backward pass, inside of `fast_matmul`.

    For attention over short rows: its many small products take three times as long by oneDNN, above all backwards.
    """
    precision = torch.get_float32_matmul_precision()
    if inputs[0].device.type != "cpu" or precision == "highest":
        return function(*inputs)
    found = function(*_Switch.apply("highest", precision, *inputs))
    return _Switch.apply(precision, "highest", found)[0]


class _Switch(torch.autograd.Function):
    """Hands its inputs on; products after it have one precision, those after its gradient the other."""

    @staticmethod
    def forward(ctx: Any, now: str, backward: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.precision = backward
        torch.set_float32_matmul_precision(now)
        return inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        torch.set_float32_matmul_precision(ctx.precision)
        return None, None, *gradients


@cache
def _is_exact() -> bool:
    left = torch.linspace(-40.0, 40.0, 160 * 576).sin().view(160, 576)
    right = torch.linspace(-90.0, 90.0, 576 * 640).cos().view(576, 640)
    exact = left.double() @ right.double()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    found = left @ right
    torch.set_float32_matmul_precision(before)
    return bool((found - exact).norm() <= _ROUNDING * exact.norm())
