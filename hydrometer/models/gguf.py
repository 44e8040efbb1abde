"""A GGUF file as an ordinary network in the run's dtype: transformers dequantises, and two things are put right.

Output and input embedding of a tied model are stored apart where they were quantised to different precision; they are
tied again, with the more precise output matrix. And the file names one end-of-sequence id, where Qwen2 models end a
turn and a document with different ones.

The weights are what 4 or 8 bits left of them: good for measuring with exactly these weights, not for quoting the scores
of the model that they were made from.
"""

import contextlib
import importlib.util
import io
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

_NAME = "model.gguf"
_QWEN2_ENDS = ("<|im_end|>", "<|endoftext|>")
_TIED_DISTANCE = 0.2
"""Relative distance below which two quantised embeddings are copies of one matrix (4 bits: about 0.1; untied: > 1)."""


def load_gguf(file: str, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase]:
    """The network with its loading report, as `from_pretrained` gives it, and the tokenizer with its chat template.

    Raises:
        ValueError: the package `gguf` is missing. transformers raises what it likes for a file it cannot read.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError("the package 'gguf' is not installed; install it with: pip install gguf")
    options: dict[str, Any] = {"gguf_file": _NAME, "trust_remote_code": False}
    with _folder_of_its_own(file) as folder, contextlib.redirect_stderr(io.StringIO()):  # a bar that knows no switch
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if hasattr(transformers, "GgufConfig"):  # versions without it always dequantise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True, **options)
    network, report = loaded
    _forget_quantisation(network)
    _tie_again(network)
    _complete_end_ids(network, tokenizer)
    return (network, report), tokenizer


@contextlib.contextmanager
def _folder_of_its_own(file: str) -> Iterator[str]:
    """A folder with nothing but the file: transformers would mix it with a checkpoint that lies beside it."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(file), os.path.join(folder, _NAME))
        yield folder


def _forget_quantisation(network: PreTrainedModel) -> None:
    """The weights are dense now.

    Raises:
        ValueError: they are not (kernels that compute on packed weights would be another model in every dtype).
    """
    if packed := next((name for name, p in network.named_parameters() if not p.dtype.is_floating_point), None):
        raise ValueError(f"its weights were left packed ('{packed}'); this needs them dequantised")
    vars(network.config).pop("quantization_config", None)


def _tie_again(network: PreTrainedModel) -> None:
    output, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if network.config.tie_word_embeddings or output is None or embedding is None:
        return
    ours, theirs = output.weight, embedding.weight
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor) and _are_copies(ours, theirs):
        embedding.weight = output.weight
        network.config.tie_word_embeddings = True


@torch.no_grad()
def _are_copies(output: Tensor, embedding: Tensor) -> bool:
    return output.shape == embedding.shape and bool((output - embedding).norm() < _TIED_DISTANCE * output.norm())


def _complete_end_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    known = tokenizer.get_vocab()
    ends = [known[token] for token in _QWEN2_ENDS if token in known]
    if network.config.model_type == "qwen2" and ends and network.generation_config is not None:
        network.generation_config.eos_token_id = ends
