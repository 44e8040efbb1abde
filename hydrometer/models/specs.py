"""Model specs: a Hugging Face id, a local folder, or `bundled:NAME`; `@revision` may follow an id."""

import os
from dataclasses import dataclass

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.models.family import FAMILY, family_folder

_LATER = {"gguf": "GGUF files", "vllm": "vLLM servers"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model's files come from."""

    text: str
    """As typed."""
    source: str
    """A folder, or an id on the Hugging Face Hub."""
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        """True where `source` is a folder on this machine."""
        return is_folder(self.source)


def is_folder(text: str) -> bool:
    """True where `text` (`~` allowed) is a folder on this machine; never raises, however odd the text is."""
    return os.path.isdir(os.path.expanduser(text))


def parse_model_spec(text: str) -> ModelSpec:
    """Read a model spec.

    Raises:
        UnknownNameError: `bundled:` with a name that is not in the family, or another word before a colon.
        SpecError: an empty spec, a folder that is not there, or a kind this version cannot load.
    """
    head, colon, rest = text.partition(":")
    if head == "bundled" and colon:
        return ModelSpec(text, str(family_folder(rest)))
    if head in _LATER and colon:
        raise SpecError(f"'{text}': {_LATER[head]} cannot be loaded by this version. Give a Hugging Face id or folder.")
    if "#" in text:
        raise SpecError(f"'{text}': adapters cannot be loaded by this version. Merge it into a folder first.")
    if is_folder(text):
        return ModelSpec(text, os.path.expanduser(text))
    name, _, revision = text.partition("@")
    if not name.strip():
        raise SpecError(f"'{text}' names no model. Give a Hugging Face id, a folder, or bundled:NAME.")
    if colon:
        raise UnknownNameError("model", text, [f"bundled:{member}" for member in FAMILY])
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise SpecError(f"'{text}' looks like a folder, and there is none there.")
    return ModelSpec(text, name, revision or None)
