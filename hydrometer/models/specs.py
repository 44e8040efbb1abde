"""Model specs: where a model's files are.

HUB_ID[@REVISION]    FOLDER    bundled:NAME    gguf:FILE    and #adapter=FOLDER after any of them
vllm:http://HOST:PORT/v1#MODEL    a model that a vLLM server serves
vllm:MODEL                        a model that vLLM runs in this process
"""

import os
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from hydrometer.credentials import refuse_secrets
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.inputs import open_plain
from hydrometer.models.family import FAMILY, family_folder

_ADAPTER = "#adapter="
_VLLM = "vllm:"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where a model's files come from."""

    text: str
    """As typed."""
    source: str
    """A folder, an id on the Hugging Face Hub, or (where `is_gguf`) a GGUF file."""
    revision: str | None = None
    is_gguf: bool = False
    adapter: str | None = None
    """Folder of a LoRA adapter that is merged into the weights."""
    is_vllm: bool = False
    """Run by vLLM; `source` then gives the tokenizer, and in this process the weights."""
    server: str | None = None
    """Address of the vLLM server, where it is not this process."""

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
        SpecError: a spec with a password in it, an empty spec, a folder or file that is not there, or a kind this
            version cannot load.
    """
    refuse_secrets(text, "The model spec")
    if is_folder(text):
        return ModelSpec(text, os.path.expanduser(text))
    if text.startswith(_VLLM):
        return _parse_vllm(text)
    base, mark, adapter = text.rpartition(_ADAPTER)
    if not mark:
        base = text
    elif not is_folder(adapter):
        raise SpecError(f"'{text}': there is no adapter folder '{adapter}'. Expected MODEL#adapter=FOLDER.")
    folder = os.path.expanduser(adapter) if mark else None
    head, colon, rest = base.partition(":")
    if head == "bundled" and colon:
        return ModelSpec(text, str(family_folder(rest)), adapter=folder)
    if head == "gguf" and colon:
        return ModelSpec(text, _gguf_file(text, rest), is_gguf=True, adapter=folder)
    if "#" in base:
        raise SpecError(f"'{text}': after '#' only adapter=FOLDER can follow, e.g. MODEL#adapter=runs/lora/adapter")
    if is_folder(base):
        return ModelSpec(text, os.path.expanduser(base), adapter=folder)
    name, _, revision = base.partition("@")
    if not name.strip():
        raise SpecError(f"'{text}' names no model. Give a Hugging Face id, a folder, bundled:NAME, or gguf:FILE.")
    if colon:
        raise UnknownNameError("model", text, [*(f"bundled:{member}" for member in FAMILY), "gguf:FILE", "vllm:MODEL"])
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        hint = f" To load a GGUF file, write gguf:{name}" if os.path.isfile(os.path.expanduser(name)) else ""
        raise SpecError(f"'{text}' looks like a folder, and there is none there.{hint}")
    return ModelSpec(text, name, revision or None, adapter=folder)


def _parse_vllm(text: str) -> ModelSpec:
    where, mark, model = text.removeprefix(_VLLM).partition("#")
    if not where.startswith(("http:", "https:")):
        where, model = "", text.removeprefix(_VLLM)
    elif not mark or not model:
        raise SpecError(
            f"'{text}' does not say which model the server serves, which its tokenizer is taken from.\n"
            "Expected vllm:http://HOST:PORT/v1#MODEL, with a folder or Hugging Face id."
        )
    elif not _is_address(where):
        raise SpecError(f"'{text}': '{where}' is no address of a server. Expected vllm:http://HOST:PORT/v1#MODEL")
    spec = parse_model_spec(model)
    if spec.is_vllm or spec.is_gguf or spec.adapter is not None:
        raise SpecError(f"'{text}': vLLM is given a folder, a Hugging Face id or bundled:NAME, not '{model}'.")
    return replace(spec, text=text, is_vllm=True, server=where.rstrip("/") or None)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and (parts.port or 1) > 0 and not parts.query
    except ValueError:  # a port that is no number
        return False


def _gguf_file(text: str, path: str) -> str:
    file = os.path.expanduser(path)
    if not os.path.exists(file):
        raise SpecError(f"'{text}': there is no file '{path}'. Expected gguf:FILE, e.g. gguf:models/model.gguf")
    try:
        with open_plain(file) as opened:
            magic = opened.read(4)
    except OSError as error:
        raise SpecError(f"'{text}': the file cannot be read ({error.strerror or error}).") from error
    if magic != b"GGUF":
        raise SpecError(f"'{text}' is not a GGUF file (it begins with {magic!r}, not b'GGUF').")
    return file
