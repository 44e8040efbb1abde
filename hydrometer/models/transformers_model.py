"""A transformers checkpoint as a `CausalModel`: loading with clear errors, and scoring in bounded memory.

Scoring prefills the prompt and then feeds the response in chunks over the key-value cache, so that the model's own
forward makes the logits (soft caps and scales included) and never more than one chunk of full-vocabulary logits exists.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from hydrometer.errors import SpecError
from hydrometer.models.causal import LogitsChunk
from hydrometer.models.conventions import Conventions
from hydrometer.models.family import FAMILY
from hydrometer.models.specs import ModelSpec, parse_model_spec
from hydrometer.models.transformers_conventions import read_conventions
from hydrometer.types import Message

Dtype = Literal["float32", "bfloat16", "float16"]
_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Kinds of layers whose keys and values of a prefix can be taken from those of a longer text."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_CHUNK_ELEMENTS = 1 << 24
"""Float32 logits held at a time by `score`: 64 MiB."""


class TransformersModel:
    """Owns a loaded model and its tokenizer."""

    def __init__(self, spec: str, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fingerprint: str):
        self.spec = spec
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.output_size = int(network.get_output_embeddings().weight.shape[0])  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
        self.vocab_size = self.output_size
        self.eos_ids = _eos_ids(network, tokenizer)
        self.device = network.device

    def token_strings(self) -> list[str | None]:
        """See `CausalModel`."""
        known = max(self.tokenizer.get_vocab().values(), default=-1) + 1  # len() would miss ids behind a gap
        size = min(known, self.output_size)
        return list(self.tokenizer.convert_ids_to_tokens(list(range(size))))

    def render(self, messages: tuple[Message, ...], *, assistant: str = "") -> tuple[int, ...]:
        """See `CausalModel`; errors as in `prompt_text`."""
        text = self.prompt_text(messages, assistant=assistant)
        return self.encode(text)

    def encode(self, text: str) -> tuple[int, ...]:
        """See `Conventional`."""
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def conventions(self) -> Conventions:
        """See `Conventional`."""
        return read_conventions(self.tokenizer, self.network.generation_config)

    def prompt_text(self, messages: tuple[Message, ...], *, assistant: str = "") -> str:
        """See `CausalModel`.

        Raises:
            SpecError: the tokenizer has no chat template, or the template refuses the messages.
        """
        return self._apply_template(messages, open_turn=True) + assistant

    def finished_text(self, messages: tuple[Message, ...]) -> str:
        """See `Conventional`; errors as in `prompt_text`."""
        return self._apply_template(messages, open_turn=False)

    def _apply_template(self, messages: tuple[Message, ...], *, open_turn: bool) -> str:
        if not self.tokenizer.chat_template:
            raise SpecError(
                f"'{self.spec}' has no chat template, so a question cannot be put to it. Use an instruct model, or add "
                "a chat_template.jinja to its folder."
            )
        chat = [message._asdict() for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=open_turn))
        except Exception as error:  # templates raise whatever their author chose
            raise SpecError(f"The chat template of '{self.spec}' refuses these messages: {error}") from error

    def count_tokens(self, text: str) -> int:
        """See `CausalModel`."""
        return len(self.encode(text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """See `CausalModel`."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def token_text(self, token_id: int) -> str:
        """See `CausalModel`."""
        return str(self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """See `CausalModel`. Memory: one chunk of [chunk, vocab] float32 logits (<= 64 MiB) and the key-value cache.

        Raises:
            ValueError: there is no prompt, so nothing predicts the first response token.
        """
        if not prompt_ids:
            raise ValueError(f"'{self.spec}': a response cannot be scored without a prompt")
        if not response_ids:
            return
        inputs = torch.tensor([*prompt_ids, *response_ids[:-1]], device=self.device)[None]
        chunk = max(1, _CHUNK_ELEMENTS // self.output_size)
        first = len(prompt_ids) - 1
        if len(response_ids) <= chunk:
            yield LogitsChunk(0, self._last_logits(inputs, len(response_ids), None))
            return
        cache = DynamicCache()
        if first:
            self._last_logits(inputs[:, :first], 1, cache)
        for start in range(0, len(response_ids), chunk):
            part = inputs[:, first + start : first + min(start + chunk, len(response_ids))]
            yield LogitsChunk(start, self._last_logits(part, part.shape[1], cache))

    @torch.inference_mode()
    def _last_logits(
        self, inputs: Int[Tensor, "1 input"], count: int, cache: DynamicCache | None
    ) -> Float[Tensor, "count vocab"]:
        """Float32 logits after the last `count` of the inputs, which follow those in the cache (and join them)."""
        use_cache = cache is not None
        output = self.network(input_ids=inputs, past_key_values=cache, use_cache=use_cache, logits_to_keep=count)
        return output.logits[0, :, : self.vocab_size].float()


def load_model(text: str, *, dtype: Dtype = "float32", device: str = "cpu") -> TransformersModel:
    """Load a model spec. Code that comes with a checkpoint is never run; progress bars and log lines are held back.

    Raises:
        UnknownNameError: an unknown bundled name.
        SpecError: nothing that can be loaded is there (no such id, pickle weights only, damaged or missing weights, no
            tokenizer, custom code), or the device cannot hold it.
    """
    spec = parse_model_spec(text)
    try:
        with _quiet_transformers():
            tokenizer = _load_tokenizer(spec)
            network = _load_network(spec, getattr(torch, dtype))
    except Exception as error:  # transformers raises whatever its parts chose, down to TypeError for a strange config
        raise SpecError(_explain_load_failure(spec, error)) from error
    try:
        network.to(torch.device(device))  # pyright: ignore[reportArgumentType] - its decorator hides `self`
    except (RuntimeError, AssertionError) as error:
        raise SpecError(f"'{text}' cannot be put on device '{device}': {_first_line(error)}") from error
    return TransformersModel(text, network, tokenizer, _fingerprint(spec, network))


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
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


def _load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(spec.source, revision=spec.revision or "main", trust_remote_code=False)
    if not set(tokenizer.get_vocab()).difference(tokenizer.all_special_tokens):
        raise ValueError("it has no tokenizer files")  # transformers would make do with an empty vocabulary
    return tokenizer


def _load_network(spec: ModelSpec, dtype: torch.dtype) -> PreTrainedModel:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        spec.source,
        revision=spec.revision or "main",
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,  # left out, transformers would ask on the terminal
        output_loading_info=True,
    )
    network, report = loaded  # typed as the network alone
    if absent := sorted(report["missing_keys"]):
        raise ValueError(f"its weights lack {len(absent)} tensors of the network, first {absent[0]}")
    kinds = set(getattr(network.config.get_text_config(), "layer_types", None) or ()) - _ATTENTION
    if kinds or network._is_stateful:
        named = ", ".join(sorted(kinds)) or "a recurrent state"
        raise ValueError(f"its layers ({named}) keep a state that cannot be cut back to a shared prefix")
    return network


def _explain_load_failure(spec: ModelSpec, error: Exception) -> str:
    if not spec.is_folder:
        if isinstance(error, OSError | HFValidationError):
            return (
                f"Unknown model '{spec.text}': it is neither a folder here nor a bundled model, and it could not be "
                f"had from the Hugging Face Hub ({_first_line(error)}).\nBundled models are {_bundled()}."
            )
        return f"'{spec.text}' cannot be loaded: {_first_line(error)}"
    names = {entry.name for entry in Path(spec.source).iterdir()}
    if not any(name.endswith(".safetensors") for name in names) and any(n.endswith(_PICKLES) for n in names):
        return f"'{spec.text}' holds only pickle weights; loading those can run code. Convert them to safetensors."
    return f"'{spec.text}' cannot be loaded: {_first_line(error)}"


def _bundled() -> str:
    return ", ".join(f"bundled:{name}" for name in FAMILY)


def _first_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def _eos_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = getattr(network.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)


def _fingerprint(spec: ModelSpec, network: PreTrainedModel) -> str:
    """SHA-256 over weights, configuration and tokenizer files; a Hub model goes by its commit."""
    commit = getattr(network.config, "_commit_hash", None)
    if not spec.is_folder:
        return f"hub:{commit or f'{spec.source}@{spec.revision}'}"
    digest = hashlib.sha256()
    for path in sorted(Path(spec.source).iterdir()):
        if path.suffix in {".safetensors", ".json", ".jinja", ".txt", ".model"}:
            digest.update(path.name.encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    return f"sha256:{digest.hexdigest()}"
