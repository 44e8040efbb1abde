"""Linear layers of a network while it samples on a CPU, their weights in the layout that oneDNN multiplies by few rows.

In a decoding step every weight is read once and used for a handful of rows; in the order it is stored in, a float32
weight passes through at half the speed of the memory or less. The copies cost as much as a few steps and are made anew
each time, since training changes the weights. Layers that are given the same tensor (queries, keys and values; gate
and up) become one product: a larger one reads its weights faster.

Up to 8 rows are multiplied as a convolution of one by one, which oneDNN does in blocks that 8 rows fill; its product
for linear layers goes over every block of weights twice for them. The operators are those that torch's own compiler
emits; where they are not there, or do not agree with the plain layers, nothing is replaced.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

_LEAST_BYTES = 64 << 20
"""Weights that fit the caches gain nothing."""
_MOST_BYTES = 2 << 30
"""What the copies may take."""
_FEW_ROWS = 8
"""The convolution is made for exactly so many: for another number oneDNN may want its weights in another layout."""
_TOGETHER: WeakKeyDictionary[nn.Module, list[list[nn.Linear]]] = WeakKeyDictionary()


@contextmanager
def packed_weights(network: nn.Module, rows: int) -> Iterator[None]:
    """Replace the forward pass of the network's plain linear layers, for inference only, until the end of the block.

    `rows` is how many a decoding step will have at most.
    """
    layers = [layer for layer in network.modules() if type(layer) is nn.Linear and "forward" not in vars(layer)]
    if not _gains(layers):
        yield
        return
    try:
        for together in _by_inputs(network, layers):
            product = _Product(together, rows)
            for place, layer in enumerate(together):
                vars(layer)["forward"] = partial(product.part, place)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


class _Product:
    """What several layers make of one tensor, side by side."""

    def __init__(self, layers: Sequence[nn.Linear], rows: int):
        self.layers = layers
        self.most_rows = _FEW_ROWS if rows <= _FEW_ROWS else None
        self.multiply = _pack_few(layers) if rows <= _FEW_ROWS else _pack(layers)
        self.widths = [layer.out_features for layer in layers]
        self.inputs: Tensor | None = None
        self.outputs: tuple[Tensor, ...] = ()

    def part(self, place: int, inputs: Float[Tensor, "*row width"]) -> Float[Tensor, "*row out"]:
        """The output of the layer at this place; the first that is asked for makes those of all."""
        if self.most_rows is not None and inputs.shape[:-1].numel() > self.most_rows:  # the prompts
            return nn.functional.linear(inputs, self.layers[place].weight, self.layers[place].bias)
        if inputs is not self.inputs:
            self.inputs, self.outputs = inputs, self.multiply(inputs).split(self.widths, dim=-1)
        found = self.outputs[place]
        if place == len(self.widths) - 1:
            self.inputs, self.outputs = None, ()
        return found


def _by_inputs(network: nn.Module, layers: Sequence[nn.Linear]) -> list[list[nn.Linear]]:
    """The layers, those together that are given the same tensor; tried once for each network."""
    known = _TOGETHER.get(network, [])
    if set(chain(*known)) != set(layers):
        known = _TOGETHER[network] = _find_by_inputs(network, layers)
    return known


@torch.inference_mode(False)
@torch.no_grad()
def _find_by_inputs(network: nn.Module, layers: Sequence[nn.Linear]) -> list[list[nn.Linear]]:
    given: list[tuple[nn.Linear, Tensor, int]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        given.append((layer, inputs[0], inputs[0]._version))

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(note).remove)
        network(input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=False)
    together: dict[tuple[int, int], list[nn.Linear]] = {}
    for layer, inputs, version in given:
        together.setdefault((id(inputs), version), []).append(layer)
    seen = [layer for layer, _, _ in given]
    groups = [group for group in together.values() if all(seen.count(layer) == 1 for layer in group)]
    alone = set(layers).difference(*groups)
    return groups + [[layer] for layer in layers if layer in alone]


def _gains(layers: list[nn.Linear]) -> bool:
    if not all(layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32 for layer in layers):
        return False
    if not _LEAST_BYTES <= sum(layer.weight.nbytes for layer in layers) <= _MOST_BYTES:
        return False
    return _agrees()


@torch.inference_mode()
def _agrees() -> bool:
    """Whether the operators exist here and do what linear layers do, in float32."""
    layers = [nn.Linear(96, width, device="meta").to_empty(device="cpu") for width in (40, 24)]
    for layer in layers:
        layer.weight.copy_(torch.linspace(-1.0, 1.0, layer.weight.numel()).sin().view_as(layer.weight))
        layer.bias.copy_(torch.linspace(0.0, 1.0, layer.out_features))
    inputs = torch.linspace(-3.0, 3.0, 3 * 96).cos().view(1, 3, 96)
    try:
        found = [pack(layers)(inputs) for pack in (_pack, _pack_few)]
    except (AttributeError, RuntimeError):
        return False
    exact = torch.cat([inputs.double() @ layer.weight.double().T + layer.bias.double() for layer in layers], dim=-1)
    return all(torch.allclose(one.double(), exact, rtol=0.0, atol=1e-4) for one in found)


@torch.inference_mode()
def _pack(layers: Sequence[nn.Linear]) -> Callable[[Tensor], Tensor]:
    operators, bias = torch.ops.mkldnn, _joint_bias(layers)
    weight = operators._reorder_linear_weight(_joint_weight(layers), None)

    def forward(inputs: Tensor) -> Tensor:
        return operators._linear_pointwise(inputs, weight, bias, "none", [], "")

    return forward


@torch.inference_mode()
def _pack_few(layers: Sequence[nn.Linear]) -> Callable[[Tensor], Tensor]:
    """For up to `_FEW_ROWS`: the rows are pixels, side by side, and the width their channels."""
    operators, bias = torch.ops.mkldnn, _joint_bias(layers)
    width, geometry = layers[0].in_features, ([0, 0], [1, 1], [1, 1], 1)
    kernel = _joint_weight(layers)[:, :, None, None]
    weight = operators._reorder_convolution_weight(kernel, *geometry, [1, width, 1, _FEW_ROWS])

    def forward(inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, width)
        filled = rows if len(rows) == _FEW_ROWS else nn.functional.pad(rows, (0, 0, 0, _FEW_ROWS - len(rows)))
        pixels = filled.contiguous().view(1, 1, _FEW_ROWS, width).permute(0, 3, 1, 2)
        found = operators._convolution_pointwise(pixels, weight, bias, *geometry, "none", [], "")
        return found.permute(0, 2, 3, 1).reshape(_FEW_ROWS, -1)[: len(rows)].view(*inputs.shape[:-1], -1)

    return forward


def _joint_weight(layers: Sequence[nn.Linear]) -> Float[Tensor, "out width"]:
    stored = [layer.weight.detach() for layer in layers]
    return stored[0] if len(stored) == 1 else torch.cat(stored)


def _joint_bias(layers: Sequence[nn.Linear]) -> Float[Tensor, " out"] | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    )
