"""Float32 matrix products by oneDNN in place of MKL on a CPU, where that changes no more than the order of a sum.

torch hands float32 products to oneDNN once they are allowed to round to bfloat16. What oneDNN makes of the permission
depends on the processor: without instructions for it, products stay in float32. So one product is compared with float64
first; where it has been rounded, or where oneDNN is not there, nothing is changed.

oneDNN compiles a product anew for every shape, and batches of texts have ever new ones. Torch keeps the last 1,024 of
them in each of two caches, half a MiB and more apiece, so that a process that goes on training and sampling would grow
by more than a GiB. Here they are kept until there are `_KEPT`, unless the environment says otherwise.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

_KEPT = 256
"""Compiled products: several passes' worth. Compiling one takes less than a millisecond."""
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, str(_KEPT))  # both are read at the first product

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
    if inputs[0].device.type != "cpu" or torch.get_float32_matmul_precision() == "highest":
        return function(*inputs)
    outside = _Outside(torch.get_float32_matmul_precision())
    return _Leave.apply(outside, function(*_Enter.apply(outside, *inputs)))


@dataclass
class _Outside:
    """How products are made around the function; its backward pass may run where they are made otherwise."""

    precision: str


class _Enter(torch.autograd.Function):
    """Hands the inputs on: into the function, and their gradients out of it."""

    @staticmethod
    def forward(ctx: Any, outside: _Outside, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.outside = outside
        torch.set_float32_matmul_precision("highest")
        return inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        torch.set_float32_matmul_precision(ctx.outside.precision)
        return None, *gradients


class _Leave(torch.autograd.Function):
    """Hands the result on: out of the function, and its gradient into it."""

    @staticmethod
    def forward(ctx: Any, outside: _Outside, found: Tensor) -> Tensor:
        ctx.outside = outside
        torch.set_float32_matmul_precision(outside.precision)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        ctx.outside.precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        return None, *gradients


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
