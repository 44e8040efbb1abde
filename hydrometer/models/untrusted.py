"""What is looked at in a checkpoint before a loader opens it: nothing in it may name code, pickles or other models.

`trust_remote_code=False` and `use_safetensors=True` keep out a checkpoint's own Python and its pickles. Left over are
an index that sends the loader to other files, an attention kernel that is fetched as code from the Hub, a folder that
is only an adapter (its base would be loaded from wherever it says), and devices or pipes in the place of files.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from hydrometer.inputs import read_plain_text, refuse_special

_KERNELS = ("attn_implementation", "experts_implementation")
_MOST_INDEX_BYTES = 256 << 20


class UntrustedError(ValueError):
    """A checkpoint that a loader should not be let near; the text says why."""


def check_folder(folder: str) -> None:
    """Look at the files of a checkpoint or adapter folder.

    Raises:
        UntrustedError: one of them is not a plain file, or an index of weights names more than safetensors beside it.
        OSError: a file cannot be read.
    """
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir():
            continue
        try:
            refuse_special(path)
        except OSError as error:
            raise UntrustedError(f"its file {path.name} cannot be used: {error}") from error
        if path.name.endswith(".index.json"):
            _check_index(path)


def check_whole_model(folder: str) -> None:
    """Look whether a folder holds a model of its own.

    Raises:
        UntrustedError: it is an adapter.
    """
    if (Path(folder) / "adapter_config.json").exists():
        raise UntrustedError(
            "it is an adapter, and not a model of its own. Give the model that it was trained on: MODEL#adapter=FOLDER"
        )


def check_config(source: str, **where: Any) -> None:
    """Look at the configuration of a folder or Hub model; `where` is what its loader takes.

    Raises:
        UntrustedError: it asks for a kernel from the Hub, which is code.
    """
    settings, _ = PreTrainedConfig.get_config_dict(source, **where)
    for name, value in _entries(settings):
        if name.lstrip("_") in _KERNELS and "/" in str(value):
            raise UntrustedError(f"its configuration asks for code from the Hub ('{name}' is {str(value)[:80]!r})")


def _check_index(path: Path) -> None:
    files = json.loads(read_plain_text(path, _MOST_INDEX_BYTES)).get("weight_map", {}).values()
    for name in dict.fromkeys(map(str, files)):
        if path.name.startswith("model.") and (Path(name).name != name or not name.endswith(".safetensors")):
            raise UntrustedError(f"its {path.name} names '{name}', which is not a safetensors file beside it")


def _entries(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at every depth."""
    waiting = [settings]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
