"""The trained student as files that others read: a Hugging Face folder `model/`, or a LoRA `adapter/`."""

import os
import shutil
from pathlib import Path

from hydrometer.artifacts.disk import translate_disk_errors
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
        if shop.adapted is None:
            shop.student.network.save_pretrained(partial, safe_serialization=True)
            shop.student.tokenizer.save_pretrained(partial)
        else:
            shop.adapted.save_pretrained(str(partial), safe_serialization=True)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    return target
