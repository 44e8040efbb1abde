"""The trained student as files that others read: a Hugging Face folder `model/`, or a LoRA `adapter/`."""

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError

from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.errors import DiskError
from hydrometer.training.setup import Workshop


def save_model(shop: Workshop, out: Path) -> Path:
    """Write `model/` or `adapter/` whole or not at all; returns its path.

    Raises:
        DiskError: the disk refuses; the last checkpoint holds the weights.
    """
    target = out / ("model" if shop.adapted is None else "adapter")
    partial = target.with_name(target.name + ".partial")
    with translate_disk_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write(shop, partial)
        except SafetensorError as error:
            raise DiskError(
                f"{target} cannot be written ({error}). Free some space and go on with --resume; the last checkpoint "
                "holds the weights."
            ) from error
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    return target


def _write(shop: Workshop, folder: Path) -> None:
    if shop.adapted is not None:
        shop.adapted.save_pretrained(str(folder), safe_serialization=True)
        return
    shop.student.network.save_pretrained(folder, safe_serialization=True)
    shop.student.tokenizer.save_pretrained(folder)
