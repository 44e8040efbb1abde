"""How much of a run's time its models take: the clock runs while a forward pass does."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(slots=True)
class Stopwatch:
    """Seconds and calls so far."""

    seconds: float = 0.0
    calls: int = 0


@contextmanager
def time_forward_passes(networks: Iterable[nn.Module]) -> Iterator[Stopwatch]:
    """Time every forward pass of these networks until the end of the block (on a GPU: until it is done).

    A pass of a network's body alone counts too; inside a pass of the network it is a part of that.
    """
    watch = Stopwatch()
    began: list[float] = []

    def start(network: nn.Module, inputs: Any) -> None:
        began.append(_now())

    def stop(network: nn.Module, inputs: Any, output: Any) -> None:
        since = began.pop()
        if not began:
            watch.seconds += _now() - since
            watch.calls += 1

    listed = [part for network in networks for part in (network, getattr(network, "base_model", network))]
    found = {id(network): network for network in listed}
    hooks = [network.register_forward_pre_hook(start) for network in found.values()]
    hooks += [network.register_forward_hook(stop, always_call=True) for network in found.values()]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
