"""A LoRA adapter merged into the weights it was trained on."""

import json
import os
import warnings
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

from hydrometer.models.untrusted import check_folder

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


def merge_adapter(network: PreTrainedModel, folder: str) -> PreTrainedModel:
    """The network with the adapter's change added to its weights, in the network's dtype.

    Raises:
        ValueError: the folder holds no LoRA adapter in safetensors, or one that was trained on another architecture.
    """
    _check_folder(folder)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(network, folder, use_safetensors=True)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"its adapter '{folder}' does not fit: {_first_line(error)}") from error
    if missing := [str(warning.message) for warning in said if "missing adapter keys" in str(warning.message)]:
        raise ValueError(f"its adapter '{folder}' does not fit: {missing[0][:200]}")
    known = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    with safe_open(os.path.join(folder, _WEIGHTS), "pt") as file:
        strange = sorted(name for name in file.keys() if "lora_" in name and name not in known)  # noqa: SIM118
    if strange:
        raise ValueError(f"its adapter '{folder}' does not fit: the model has no place for {strange[0]}")
    merged: Any = adapted.merge_and_unload(safe_merge=True)
    return merged


def _check_folder(folder: str) -> None:
    check_folder(folder)
    names = set(os.listdir(folder))
    if _CONFIG not in names:
        raise ValueError(f"its adapter '{folder}' has no {_CONFIG}")
    with open(os.path.join(folder, _CONFIG), encoding="utf-8") as file:
        kind = json.load(file).get("peft_type")
    if kind != "LORA":
        raise ValueError(f"its adapter '{folder}' is of the kind {kind!r}; only LORA can be merged")
    if _WEIGHTS not in names:
        other = next(
            (f" (only {name}, which can run code when it is read)" for name in names if "adapter_model" in name), ""
        )
        raise ValueError(f"its adapter '{folder}' has no {_WEIGHTS}{other}")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
