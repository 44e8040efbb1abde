"""One file per checkpoint: what is trained, its moments, and how far the run is. Written whole or not at all.

A run that goes on from it repeats the steps after it, and on a CPU to the last bit: responses, order of questions and
learning rate are functions of the seed and the step.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.errors import DiskError, RunFolderError

_FOLDER = "checkpoints"
_PATTERN = "step-*.safetensors"


class Checkpoint(NamedTuple):
    """A checkpoint that was read."""

    step: int
    tensors: dict[str, torch.Tensor]
    told: dict[str, float | int]
    """Running totals: generated tokens, rollouts, seconds."""


def save_checkpoint(run: Path, step: int, tensors: dict[str, torch.Tensor], told: dict[str, float | int]) -> None:
    """Write the checkpoint of a step, then remove the ones before it.

    Raises:
        DiskError: the disk refuses; the checkpoint before it stays.
    """
    folder = run / _FOLDER
    target = folder / f"step-{step:08d}.safetensors"
    partial = target.with_suffix(".partial")
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with translate_disk_errors(target):
            folder.mkdir(exist_ok=True)
            try:
                save_file(whole, partial, metadata={"step": str(step), "told": json.dumps(told)})
            except SafetensorError as error:
                raise DiskError(
                    f"{target} cannot be written ({error}). Free some space and go on with --resume."
                ) from error
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    for old in folder.glob("step-*"):  # also what a kill left half written
        if old != target:
            with contextlib.suppress(OSError):
                old.unlink()


def find_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run."""
    return max((run / _FOLDER).glob(_PATTERN), default=None)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunFolderError: it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Checkpoint(int(metadata["step"]), tensors, json.loads(metadata["told"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}). Remove it; --resume then starts from the beginning."
        ) from error
