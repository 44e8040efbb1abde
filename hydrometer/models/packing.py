"""Linear layers of a network while it samples on a CPU, their weights in the layout that oneDNN multiplies by few rows.

In a decoding step every weight is read once and used for a handful of rows; in the order it is stored in, a float32
weight passes through at half the speed of the memory or less. The copies cost as much as a few steps and are made anew
each time, since training changes the weights. The operators are those that torch's own compiler emits; where they are
not there, or do not agree with the plain layer, nothing is replaced.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LEAST_BYTES = 64 << 20
"""Weights that fit the caches gain nothing."""
_MOST_BYTES = 2 << 30
"""What the copies may take."""


@contextmanager
def packed_weights(network: nn.Module) -> Iterator[None]:
    """Replace the forward pass of the network's plain linear layers, for inference only, until the end of the block."""
    layers = [layer for layer in network.modules() if type(layer) is nn.Linear and "forward" not in vars(layer)]
    if not _gains(layers):
        yield
        return
    try:
        for layer in layers:
            vars(layer)["forward"] = _pack(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _gains(layers: list[nn.Linear]) -> bool:
    if not all(layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32 for layer in layers):
        return False
    if not _LEAST_BYTES <= sum(layer.weight.nbytes for layer in layers) <= _MOST_BYTES:
        return False
    return _agrees()


@torch.inference_mode()
def _agrees() -> bool:
    """Whether the operators exist here and do what a linear layer does, in float32."""
    layer = nn.Linear(96, 40, device="meta").to_empty(device="cpu")
    layer.weight.copy_(torch.linspace(-1.0, 1.0, 96 * 40).sin().view(40, 96))
    layer.bias.copy_(torch.linspace(0.0, 1.0, 40))
    inputs = torch.linspace(-3.0, 3.0, 3 * 96).cos().view(1, 3, 96)
    try:
        found = _pack(layer)(inputs)
    except (AttributeError, RuntimeError):
        return False
    exact = inputs.double() @ layer.weight.double().T + layer.bias.double()
    return bool(torch.allclose(found.double(), exact, rtol=0.0, atol=1e-4))


@torch.inference_mode()
def _pack(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    operators = torch.ops.mkldnn
    weight, bias = operators._reorder_linear_weight(layer.weight.detach(), None), layer.bias

    def forward(inputs: Tensor) -> Tensor:
        return operators._linear_pointwise(inputs, weight, bias, "none", [], "")

    return forward
