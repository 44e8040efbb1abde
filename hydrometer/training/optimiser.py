"""AdamW over what is trained, in float32 whatever the weights are kept in, and its rate as a function of the step.

An update of a 16-bit weight is often smaller than the weight's own resolution and would be lost; such weights have a
float32 master copy that the updates go to. The first moment decays with 0.9.
"""

import math
from collections.abc import Iterable
from typing import Literal

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


class Optimiser:
    """Owns the moments and, for 16-bit weights, the master copies."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, beta2: float, weight_decay: float):
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [
            nn.Parameter(p.detach().float()) if p.dtype in (torch.bfloat16, torch.float16) else p for p in self.trained
        ]
        on_device = self.trained[0].device.type in ("cpu", "cuda")
        self.adam = torch.optim.AdamW(
            self.masters, lr=0.0, betas=(0.9, beta2), weight_decay=weight_decay, fused=on_device
        )

    @torch.no_grad()
    def clip(self, max_norm: float) -> Tensor:
        """Take the gradients over and scale them down to `max_norm`; returns their norm before that.

        Raises:
            FloatingPointError: it is not finite.
        """
        for mine, parameter in zip(self.masters, self.trained, strict=True):
            if mine is not parameter and parameter.grad is not None:
                mine.grad = parameter.grad.float()
        norm = whole_tensor(nn.utils.clip_grad_norm_(self.masters, max_norm))
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {float(norm)}")
        return norm

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update with the clipped gradients, and clear them."""
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for mine, parameter in zip(self.masters, self.trained, strict=True):
            if mine is not parameter:
                parameter.copy_(mine)
                mine.grad = None
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments, all that a checkpoint has to hold; of a split student this process's part."""
        found: dict[str, Tensor] = {}
        for number, master in enumerate(self.masters):
            found[f"weight.{number}"] = master.detach()
            for name, value in self.adam.state.get(master, {}).items():
                found[f"{name}.{number}"] = value
        return found

    @torch.no_grad()
    def restore(self, saved: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave, in whole tensors."""
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
