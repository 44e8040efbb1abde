"""How processes split the student that they train by DeepSpeed's ZeRO, where `accelerate launch` asks for DeepSpeed.

    stage 1    AdamW's moments and the float32 weights that it steps on: 1 / processes in each
    stage 2    the gradients too
    stage 3    the weights too, as `SplitStudent` has them: the student's own network is empty but in `whole()`

DeepSpeed's engine makes the gradients, sums them up, clips and steps. What stays the loop's: which passes make a step,
the learning rate, what a run leaves behind. A checkpoint holds whole tensors under the names of `Optimiser`, so that a
run may go on with another number of processes, in another stage, or without DeepSpeed. Stage 0 splits nothing and is
left to `WholeStudent`.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin
from torch import Tensor, nn
from torch.nn import functional

from hydrometer.errors import SpecError
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.training.gradient import idle_lesson
from hydrometer.training.optimiser import AdamSettings, build_adam
from hydrometer.training.sharding import OwnWeights, largest, share_weights

Config = Mapping[str, Any]
"""What DeepSpeed is told."""

_MOMENTS = ("exp_avg", "exp_avg_sq")
_UNHEEDED = {"steps_per_print", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"}


class ZeroStudent:
    """Owns DeepSpeed's engine: both the hold on the student and what makes its steps."""

    is_alone = False

    def __init__(
        self,
        student: TransformersModel,
        build_loss: Callable[[TransformersModel], nn.Module],
        accelerator: Accelerator,
        config: Config,
        adam: AdamSettings,
    ):
        self.accelerator = accelerator
        is_split = config["zero_optimization"]["stage"] == 3
        used = share_weights(student) if is_split else student
        self.network = used.network
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.loss = _build_engine(build_loss(used), build_adam(self.trained, adam), config, student.device)
        self.own = OwnWeights(student.network, self.network) if is_split else None
        self.passes_left = 0
        self.has_gradient = False
        self.steps = 0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """See `Holding`."""
        if self.own is None:
            yield
            return
        with _zero().GatheredParameters(self.own.parts), self.own.filled(lambda part: part.data):
            yield

    def most(self, count: int) -> int:
        """See `Holding`."""
        return largest(count, self.accelerator)

    def expect(self, passes: int) -> None:
        """See `Holding`."""
        self.passes_left = passes
        self.has_gradient = passes > 0

    def backward(self, loss: Tensor) -> None:
        """See `Holding`; DeepSpeed takes the mean over processes."""
        self.passes_left -= 1
        self.loss.set_gradient_accumulation_boundary(self.passes_left == 0)
        self.loss.backward(loss * self.accelerator.num_processes)

    def share_gradients(self) -> None:
        """See `Holding`; the last pass has done it."""

    def step(self, rate: float) -> Tensor:
        """See `Optimising`."""
        if not self.has_gradient:  # no response in any process
            return torch.zeros(())
        for group in self.loss.optimizer.param_groups:
            group["lr"] = rate
        self.loss.step()
        if not self.loss.was_step_applied():
            raise FloatingPointError("the gradient's norm is not finite")
        self.steps += 1
        return torch.as_tensor(self.loss.get_global_grad_norm())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Optimising`."""
        from deepspeed.utils import (  # pyright: ignore[reportMissingImports]
            safe_get_full_fp32_param,
            safe_get_full_optimizer_state,
        )

        for number, parameter in enumerate(self.trained):
            yield f"weight.{number}", safe_get_full_fp32_param(parameter)
            if self.steps:
                for name in _MOMENTS:
                    yield f"{name}.{number}", safe_get_full_optimizer_state(parameter, name)
                yield f"step.{number}", torch.tensor(float(self.steps))

    @torch.no_grad()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """See `Optimising`."""
        counts = [int(value) for name, value in saved.items() if name.startswith("step.")]
        if counts:
            self._make_moments()
        for number, parameter in enumerate(self.trained):
            value = saved[f"weight.{number}"].to(parameter.device)
            with _zero().GatheredParameters([parameter], modifier_rank=0):
                parameter.copy_(value)
            _set_float32(parameter, value)
            for name in _MOMENTS if counts else ():
                _set_float32(parameter, saved[f"{name}.{number}"].to(parameter.device), moment=name)
        self.steps = max(counts, default=0)
        for state in self.loss.optimizer.state.values():
            state["step"].fill_(self.steps)

    @torch.enable_grad()
    def _make_moments(self) -> None:
        """A step of no length: DeepSpeed has no moments to be set before its first."""
        self.expect(1)
        self.backward(self.loss(idle_lesson(self.trained[0].device), 1.0, lambda *_: None)[0])
        self.step(0.0)


def read_zero(max_norm: float) -> Config | None:
    """What DeepSpeed is to be told where `accelerate launch --use_deepspeed` asks for it; None if it has nothing to do.

    Args:
        max_norm: what the run scales gradients down to.

    Raises:
        SpecError: DeepSpeed is not installed, or it is asked for what this loop does not do.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        return None
    if find_spec("deepspeed") is None:
        raise SpecError("accelerate was set up for DeepSpeed, which is not installed: pip install deepspeed")
    try:
        asked = DeepSpeedPlugin().deepspeed_config
    except (ValueError, OSError) as error:
        raise SpecError(f"The configuration of DeepSpeed cannot be used: {error}") from error
    zero = {name: value for name, value in asked["zero_optimization"].items() if _asks(value)}
    _refuse(asked, zero, max_norm)
    if not zero.get("stage"):
        return None
    return {
        "zero_optimization": zero,
        "gradient_clipping": max_norm,
        "train_micro_batch_size_per_gpu": 1,  # the loop tells the engine which pass is the last of a step
        "gradient_accumulation_steps": 1,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": float("inf"),
    }


def _refuse(asked: Config, zero: Config, max_norm: float) -> None:
    offloaded = [name for name in zero if "offload" in name]
    if offloaded:
        raise SpecError(
            f"accelerate was set up for DeepSpeed with {' and '.join(offloaded)}; this loop steps with torch's "
            "AdamW on the device that it trains on, so launch without --offload_optimizer_device and "
            "--offload_param_device."
        )
    own = {"zero_optimization": zero, "gradient_clipping": max_norm, "gradient_accumulation_steps": 1}
    others = [
        name
        for name, value in asked.items()
        if name != "zero_optimization" and name not in _UNHEEDED and _asks(value) and own.get(name) != value
    ]
    if others:
        raise SpecError(
            f"accelerate was set up for DeepSpeed with {', '.join(sorted(others))}, which this loop decides itself "
            "(--max-grad-norm, --micro-batch, --prompts-per-step, --learning-rate, --dtype); leave it out or write "
            '"auto". Of the configuration only zero_optimization is heeded.'
        )


def _asks(value: Any) -> bool:
    """Whether a setting says something; `auto` leaves it to whoever uses DeepSpeed."""
    if isinstance(value, dict):
        switch = value.get("enabled", value.get("device", True))
        return _asks(switch) and any(_asks(part) for part in value.values())
    return value is not None and value is not False and value not in ("auto", "none")


def _build_engine(loss: nn.Module, adam: torch.optim.AdamW, config: Config, device: torch.device) -> Any:
    import deepspeed  # pyright: ignore[reportMissingImports]
    from deepspeed.accelerator import get_accelerator  # pyright: ignore[reportMissingImports]

    if get_accelerator().device_name() != device.type:
        raise SpecError(
            f"DeepSpeed works on {get_accelerator().device_name()} here and the run on {device.type}; "
            f"choose another --device, or set DS_ACCELERATOR={device.type} in the environment."
        )
    # at every pass of 0.19 with torch 2.13
    warnings.filterwarnings("ignore", r"`torch.distributed.\w+_tensor` is deprecated", FutureWarning)
    engine, *_ = deepspeed.initialize(model=loss, optimizer=adam, config=dict(config), dist_init_required=False)
    return engine


def _zero() -> Any:
    from deepspeed import zero  # pyright: ignore[reportMissingImports]

    return zero


def _set_float32(parameter: nn.Parameter, value: Tensor, *, moment: str | None = None) -> None:
    """Of the weight that AdamW steps on or, by name, one of its moments: this process's part of a whole tensor."""
    from deepspeed import utils  # pyright: ignore[reportMissingImports]

    stepped: Any = parameter
    if hasattr(stepped, "ds_id"):  # stage 3; its setters of whole tensors fail where processes do not divide the size
        part = stepped.ds_tensor.numel()
        count, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        value = functional.pad(value.flatten(), (0, count * part - value.numel())).narrow(0, rank * part, part)
        setters = (utils.safe_set_local_fp32_param, utils.safe_set_local_optimizer_state)
    else:
        setters = (utils.safe_set_full_fp32_param, utils.safe_set_full_optimizer_state)
    if moment is None:
        setters[0](parameter, value)
    else:
        setters[1](parameter, value, moment)
