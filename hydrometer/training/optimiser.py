"""AdamW over what is trained, in float32 whatever the weights are kept in, and its rate as a function of the step.

An update of a 16-bit weight is often smaller than the weight's own resolution and would be lost; such weights have a
float32 master copy that the updates go to. The first moment decays with 0.9.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hydrometer.training.sharding import part_like, whole_tensor

Schedule = Literal["constant", "linear", "cosine"]


def rate_at(step: int, *, steps: int, peak: float, warmup_ratio: float, schedule: Schedule) -> float:
    """The learning rate of step 0, 1, ...: linear warm-up, then as the schedule says down to 0 after the last step."""
    warmup = round(warmup_ratio * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (steps - step) / max(steps - warmup, 1)
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * left
        case "cosine":
            return peak * 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))


class AdamSettings(NamedTuple):
    """What is the same in every step."""

    beta2: float
    weight_decay: float
    max_norm: float
    """Gradients are scaled down to it."""


@runtime_checkable
class Optimising(Protocol):
    """One process's hold on what makes the steps."""

    def step(self, rate: float) -> Tensor:
        """Update with the clipped gradients, and clear them; returns their norm before clipping.

        Raises:
            FloatingPointError: it is not finite; no weight was changed.
        """
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Weights and moments, all that a checkpoint has to hold, each whole; all processes go through all of them."""
        ...

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave, here or where the student was held in another way."""
        ...


def build_adam(parameters: list[nn.Parameter], settings: AdamSettings) -> torch.optim.AdamW:
    """Without a rate yet."""
    on_device = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay, fused=on_device
    )


class Optimiser:
    """Owns the moments and, for 16-bit weights, the master copies."""

    def __init__(self, parameters: Iterable[nn.Parameter], settings: AdamSettings):
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [
            nn.Parameter(p.detach().float()) if p.dtype in (torch.bfloat16, torch.float16) else p for p in self.trained
        ]
        self.max_norm = settings.max_norm
        self.adam = build_adam(self.masters, settings)

    @torch.no_grad()
    def step(self, rate: float) -> Tensor:
        """See `Optimising`."""
        for mine, parameter in zip(self.masters, self.trained, strict=True):
            if mine is not parameter and parameter.grad is not None:
                mine.grad = parameter.grad.float()
        norm = whole_tensor(nn.utils.clip_grad_norm_(self.masters, self.max_norm))
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {float(norm)}")
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for mine, parameter in zip(self.masters, self.trained, strict=True):
            if mine is not parameter:
                parameter.copy_(mine)
                mine.grad = None
            parameter.grad = None
        return norm

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Optimising`."""
        for number, master in enumerate(self.masters):
            yield f"weight.{number}", whole_tensor(master.detach())
            for name, value in self.adam.state.get(master, {}).items():
                yield f"{name}.{number}", whole_tensor(value)

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See `Optimising`."""
        for number, (master, parameter) in enumerate(zip(self.masters, self.trained, strict=True)):
            master.copy_(part_like(saved[f"weight.{number}"], master))
            if master is not parameter:
                parameter.copy_(master)
            if f"step.{number}" in saved:
                self.adam.state[master] = {
                    name: part_like(saved[f"{name}.{number}"], master) for name in ("exp_avg", "exp_avg_sq")
                } | {"step": saved[f"step.{number}"].to(master.device if _on_device(master) else "cpu")}


def _on_device(parameter: Tensor) -> bool:
    """Fused AdamW keeps its step counter with the weights."""
    return parameter.device.type == "cuda"
