"""Reading a model's files: a folder, an id on the Hub, a GGUF file; a LoRA adapter merged on the way.

Code that comes with a checkpoint is never run, pickles are never opened, and what is missing is never made up.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import HFValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from hydrometer.errors import SpecError
from hydrometer.models.hub import HubRefusal, explain_unknown, is_hub_reachable
from hydrometer.models.specs import ModelSpec
from hydrometer.models.untrusted import UntrustedError, check_config, check_folder, check_whole_model

_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Kinds of layers whose keys and values of a prefix can be taken from those of a longer text."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_FINGERPRINTED = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model"})


class Checkpoint(NamedTuple):
    """A loaded model."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    """SHA-256 over weights, configuration and tokenizer files; a Hub model goes by its commit."""


class Description(NamedTuple):
    """What a model's files say without its weights."""

    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig | None
    output_size: int
    parameters: int


def read_description(spec: ModelSpec) -> Description:
    """Read the files of a model whose weights run elsewhere.

    Raises:
        SpecError: they cannot be had, or are not to be trusted.
    """
    try:
        with quiet_transformers():
            tokenizer, where = _read_tokenizer(spec)
            _check_tokenizer(tokenizer)
            config = AutoConfig.from_pretrained(spec.source, trust_remote_code=False, **where)
            with torch.device("meta"):
                network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            generation = network.generation_config
            with contextlib.suppress(OSError):  # the file need not be there
                generation = GenerationConfig.from_pretrained(spec.source, **where)
    except HubRefusal as error:
        raise SpecError(str(error)) from error
    except Exception as error:  # transformers raises whatever its parts chose
        raise SpecError(_explain_load_failure(spec, error)) from error
    size = int(network.get_output_embeddings().weight.shape[0])
    return Description(tokenizer, generation, size, sum(parameter.numel() for parameter in network.parameters()))


def read_checkpoint(spec: ModelSpec, dtype: torch.dtype) -> Checkpoint:
    """Load what a spec names, on the CPU; progress bars and log lines are held back.

    Raises:
        SpecError: nothing that can be loaded is there (no such id, pickle weights only, damaged or missing weights, no
            tokenizer, custom code, an adapter that does not fit).
    """
    try:
        with quiet_transformers():
            network, tokenizer = _read(spec, dtype)
            if spec.adapter is not None:
                from hydrometer.models.adapters import merge_adapter  # loads peft

                network = merge_adapter(network, spec.adapter)
    except HubRefusal as error:
        raise SpecError(str(error)) from error
    except Exception as error:  # transformers raises whatever its parts chose, down to TypeError for a strange config
        raise SpecError(_explain_load_failure(spec, error)) from error
    return Checkpoint(network, tokenizer, _fingerprint(spec, network))


def _read(spec: ModelSpec, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    loaded: Any  # typed as the network alone, without its report
    if spec.is_gguf:
        from hydrometer.models.gguf import load_gguf

        loaded, tokenizer = load_gguf(spec.source, dtype)
    else:
        tokenizer, where = _read_tokenizer(spec)
        loaded = AutoModelForCausalLM.from_pretrained(
            spec.source,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,  # left out, transformers would ask on the terminal
            output_loading_info=True,
            **where,
        )
    _check_tokenizer(tokenizer)
    return _check_network(*loaded), tokenizer


def _read_tokenizer(spec: ModelSpec) -> tuple[PreTrainedTokenizerBase, dict[str, Any]]:
    """The tokenizer of a folder or Hub model that has been looked at, and where its loaders find the rest."""
    only_local = not spec.is_folder and not is_hub_reachable(spec)
    where: dict[str, Any] = {"revision": spec.revision or "main", "local_files_only": only_local}
    if spec.is_folder:
        check_folder(spec.source)
        check_whole_model(spec.source)
    check_config(spec.source, **where)
    return AutoTokenizer.from_pretrained(spec.source, trust_remote_code=False, **where), where


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    if not set(tokenizer.get_vocab()).difference(tokenizer.all_special_tokens):
        raise ValueError("it has no tokenizer files")  # transformers would make do with an empty vocabulary


def _check_network(network: PreTrainedModel, report: dict[str, Any]) -> PreTrainedModel:
    if absent := sorted(report["missing_keys"]):
        raise ValueError(f"its weights lack {len(absent)} tensors of the network, first {absent[0]}")
    kinds = set(getattr(network.config.get_text_config(), "layer_types", None) or ()) - _ATTENTION
    if kinds or network._is_stateful:
        named = ", ".join(sorted(kinds)) or "a recurrent state"
        raise ValueError(f"its layers ({named}) keep a state that cannot be cut back to a shared prefix")
    return network


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back bars and log lines of transformers below 'error'; both settings are put back afterwards."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # huggingface_hub warns where its environment variable has the last word
        if bars:
            logging.disable_progress_bar()
        logging.set_verbosity_error()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if bars:
                logging.enable_progress_bar()
        logging.set_verbosity(verbosity)


def _explain_load_failure(spec: ModelSpec, error: Exception) -> str:
    if isinstance(error, UntrustedError):
        return f"'{spec.text}' is not loaded: {error}"
    if spec.is_gguf or spec.is_folder:
        names = {entry.name for entry in Path(spec.source).iterdir()} if spec.is_folder else set()
        if not any(name.endswith(".safetensors") for name in names) and any(n.endswith(_PICKLES) for n in names):
            return f"'{spec.text}' holds only pickle weights; loading those can run code. Convert them to safetensors."
        return f"'{spec.text}' cannot be loaded: {first_line(error)}"
    if isinstance(error, OSError | HFValidationError):
        found = f"it could not be had from the Hugging Face Hub ({first_line(error)})"
        return explain_unknown(spec, found)
    return f"'{spec.text}' cannot be loaded: {first_line(error)}"


def first_line(error: Exception) -> str:
    """Kind and first line of an error, for a message of one line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def _fingerprint(spec: ModelSpec, network: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    if spec.is_gguf:
        _add_file(digest, Path(spec.source))
    elif spec.is_folder:
        _add_folder(digest, spec.source)
    else:
        commit = getattr(network.config, "_commit_hash", None)
        named = f"hub:{commit or f'{spec.source}@{spec.revision}'}"
        if spec.adapter is None:
            return named
        digest.update(named.encode())
    if spec.adapter is not None:
        _add_folder(digest, spec.adapter)
    return f"sha256:{digest.hexdigest()}"


def _add_folder(digest: Any, folder: str) -> None:
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in _FINGERPRINTED:
            digest.update(path.name.encode())
            _add_file(digest, path)


def _add_file(digest: Any, path: Path) -> None:
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
