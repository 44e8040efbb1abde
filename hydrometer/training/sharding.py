"""How processes hold the student that they train: each all of it, or each a part of every tensor (FSDP 2).

DeepSpeed's ZeRO is in `zero`.

Split, a process owns 1 / processes of the weights, gradients, master copies and moments. Two networks share the work:
the split one that gradients go through, a layer put together at a time, and the student's own, whose weights are empty
but while `whole()` is entered. There the student samples, is evaluated, teaches and is saved, without a word between
processes, as if it had never been split. Frozen copies of the student and other teachers stay whole in every process.

What is put together or summed up is so by all processes at once. Whatever one of them does with a split student, all
have to do equally often; `most` is how they agree.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy, deepcopy
from typing import Protocol, cast, runtime_checkable

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from hydrometer.errors import SpecError
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import takes_trees
from hydrometer.training.networks import layers_of


@runtime_checkable
class Holding(Protocol):
    """One process's hold on the student."""

    network: PreTrainedModel
    """What the training pass goes through, with the parameters that are trained."""
    loss: nn.Module
    """`StudentLoss` over it."""
    is_alone: bool
    """Whether this process can put the student together by itself."""

    def whole(self) -> AbstractContextManager[None]:
        """While it is entered, by all processes, the student's own network has its weights."""
        ...

    def most(self, count: int) -> int:
        """The largest count of all processes where they have to do something equally often; else this one's."""
        ...

    def expect(self, passes: int) -> None:
        """Told before the first pass of a step how many `backward` it will have."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Make the gradient of a loss."""
        ...

    def share_gradients(self) -> None:
        """After the last pass of a step: every gradient is the sum over processes."""
        ...


class WholeStudent:
    """All of it in every process."""

    is_alone = True

    def __init__(self, network: PreTrainedModel, loss: nn.Module, accelerator: Accelerator):
        self.network = network
        self.loss = loss
        self.accelerator = accelerator

    def whole(self) -> AbstractContextManager[None]:
        """See `Holding`."""
        return nullcontext()

    def most(self, count: int) -> int:
        """See `Holding`."""
        return count

    def expect(self, passes: int) -> None:
        """See `Holding`."""

    def backward(self, loss: Tensor) -> None:
        """See `Holding`."""
        self.accelerator.backward(loss)

    def share_gradients(self) -> None:
        """See `Holding`."""
        if self.accelerator.num_processes == 1:
            return
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = cast(Tensor, self.accelerator.reduce(gradient, "sum"))


class OwnWeights:
    """Those of the student's own network while another has them in parts: empty but while `filled` is entered."""

    def __init__(self, own: nn.Module, split: nn.Module):
        self.places = list(zip(own.parameters(), split.parameters(), strict=True))
        self._empty()

    @property
    def parts(self) -> list[nn.Parameter]:
        """The parameters of the other network."""
        return [part for _, part in self.places]

    @contextmanager
    def filled(self, whole: Callable[[nn.Parameter], Tensor]) -> Iterator[None]:
        """Let the student's own parameters be what `whole` makes of the others."""
        try:
            for mine, part in self.places:
                mine.data = whole(part)
            yield
        finally:
            self._empty()

    def _empty(self) -> None:
        for mine, _ in self.places:
            mine.data = mine.data.new_empty(0)


class SplitStudent:
    """A part of every tensor in each process; the layers and, around them, the loss are put together when in use."""

    is_alone = False

    def __init__(
        self,
        student: TransformersModel,
        build_loss: Callable[[TransformersModel], nn.Module],
        accelerator: Accelerator,
        *,
        reshard_after_forward: bool = True,
    ):
        self.accelerator = accelerator
        split = share_weights(student)
        self.network = split.network
        self.loss = build_loss(split)
        mesh = init_device_mesh(student.device.type, (accelerator.num_processes,))
        for layer in layers_of(self.network):
            fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward)
        fully_shard(self.loss, mesh=mesh)
        self.own = OwnWeights(student.network, self.network)

    def whole(self) -> AbstractContextManager[None]:
        """See `Holding`."""
        return self.own.filled(lambda part: whole_tensor(part.detach()))

    def most(self, count: int) -> int:
        """See `Holding`."""
        return largest(count, self.accelerator)

    def expect(self, passes: int) -> None:
        """See `Holding`."""

    def backward(self, loss: Tensor) -> None:
        """See `Holding`; FSDP takes the mean over processes."""
        self.accelerator.backward(loss * self.accelerator.num_processes)

    def share_gradients(self) -> None:
        """See `Holding`; each pass has done it."""


def hold(
    student: TransformersModel, build_loss: Callable[[TransformersModel], nn.Module], accelerator: Accelerator
) -> Holding:
    """Take hold of the student as `accelerate launch` was told to; once, and before its network is used to train.

    Raises:
        SpecError: see `read_split`.
    """
    plugin = read_split()
    if plugin is None or accelerator.num_processes == 1:
        return WholeStudent(student.network, build_loss(student), accelerator)
    return SplitStudent(student, build_loss, accelerator, reshard_after_forward=bool(plugin.reshard_after_forward))


def read_split() -> FullyShardedDataParallelPlugin | None:
    """What `accelerate launch --use_fsdp` asks for, also on CPUs, where accelerate itself does not heed it.

    Raises:
        SpecError: it asks for what this loop does not do.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        return None
    plugin = FullyShardedDataParallelPlugin()
    refused = {
        "FSDP 1; launch with --fsdp_version 2": plugin.fsdp_version != 2,
        "parameters offloaded to the CPU; launch without --fsdp_offload_params": isinstance(
            plugin.cpu_offload, CPUOffloadPolicy
        ),
        "FSDP's activation checkpointing; use hydrometer's --gradient-checkpointing instead": (
            plugin.activation_checkpointing
        ),
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise SpecError(f"accelerate was set up for {what}.")
    return plugin


def largest(count: int, accelerator: Accelerator) -> int:
    """Of the counts of all processes."""
    counts = accelerator.gather(torch.tensor([count], device=accelerator.device))
    return int(cast(Tensor, counts).max())


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, of which a process may hold a part; called by all processes then."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Of a tensor that every process has whole, what this one holds of `pattern`, on its device."""
    tensor = tensor.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return tensor
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)


def share_weights(student: TransformersModel) -> TransformersModel:
    """The same model with modules of its own around the same weights, so that there is never a second copy of all."""
    parameters = {id(p): nn.Parameter(p.data, p.requires_grad) for p in student.network.parameters()}
    shared = copy(student)
    shared.network = deepcopy(student.network, dict(parameters))
    takes_trees(shared.network)  # tried with whole weights, and by each process alone
    return shared
