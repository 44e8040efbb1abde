"""A transformers checkpoint as a `CausalModel`: loading with clear errors, and scoring in bounded memory.

Scoring makes the last hidden states of the whole response in one pass, or takes them from a score cache, and turns a
chunk of them at a time into logits (`halves`). A network that does not come apart like this is fed the response in
chunks over the key-value cache. Either way the model's own forward makes the logits, soft caps and scales included, and
never more than one chunk of them exists.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from hydrometer.errors import SpecError
from hydrometer.models.causal import LogitsChunk, Warp, warp_logprobs
from hydrometer.models.checkpoints import first_line, read_checkpoint
from hydrometer.models.conventions import Conventions
from hydrometer.models.halves import comes_apart, logits_of, padded_states, predicting_states
from hydrometer.models.prompting import PromptFormat, knows_variable, open_turn, render_plain
from hydrometer.models.score_cache import Row, ScoreCache
from hydrometer.models.specs import parse_model_spec
from hydrometer.models.transformers_conventions import read_conventions
from hydrometer.types import Message

Dtype = Literal["float32", "bfloat16", "float16"]
_CHUNK_BYTES = 16 << 20
"""Of the float32 logits held at a time on the CPU. Above 32 MiB every allocation is of fresh pages."""
_CHUNK_BYTES_ON_GPU = 128 << 20
_LEAST_ROWS = 32
"""With fewer rows the output layer spends its time on reading its weights."""
_BATCH_TOKENS = 4096
"""Of prompts and responses in one pass of `sampled_logprobs`."""


class TransformersModel:
    """Owns a loaded model and its tokenizer, and knows how its prompts are written."""

    def __init__(
        self,
        spec: str,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fingerprint: str,
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 - frozen
    ):
        self.spec = spec
        self.prompt_format = prompt_format
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.output_size = int(network.get_output_embeddings().weight.shape[0])  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
        self.vocab_size = self.output_size
        self.eos_ids = _eos_ids(network, tokenizer)
        self.device = network.device
        self.score_cache: ScoreCache | None = None
        """Of a model whose weights are those of its fingerprint and stay as they are."""

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
            SpecError: there is no chat template and plain text was not asked for, or the template refuses the messages.
        """
        if self.chat_template is None and self.prompt_format.plain:
            return open_turn(self._beginning() + render_plain(messages), assistant)
        return open_turn(self._apply_template(messages, opens_answer=True), assistant)

    def finished_text(self, messages: tuple[Message, ...]) -> str:
        """See `Conventional`; errors as in `prompt_text`, also for plain text, which has no end of a turn."""
        return self._apply_template(messages, opens_answer=False)

    def _apply_template(self, messages: tuple[Message, ...], *, opens_answer: bool) -> str:
        template = self.chat_template
        if template is None:
            raise SpecError(
                f"'{self.spec}' has no chat template, so a question cannot be put to it. Use an instruct model, "
                "give a template (--chat-template FILE), or let base models see plain text (--plain-prompt)."
            )
        chat = [message._asdict() for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                chat,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=opens_answer,
                **self.prompt_format.kwargs,
            )
        except Exception as error:  # templates raise whatever their author chose
            raise SpecError(f"The chat template of '{self.spec}' refuses these messages: {error}") from error
        return str(text)

    @property
    def chat_template(self) -> str | None:
        """The template that prompts are written with; None where there is none."""
        if self.prompt_format.chat_template is not None:
            return self.prompt_format.chat_template
        return self.tokenizer.get_chat_template() if self.tokenizer.chat_template else None

    def knows_template_variable(self, name: str) -> bool:
        """Whether this model's chat template mentions a variable of that name."""
        template = self.chat_template
        return template is not None and knows_variable(template, name)

    def _beginning(self) -> str:
        """The token that plain text begins with, where the tokenizer puts one there by itself."""
        added = self.tokenizer("", add_special_tokens=True, verbose=False)["input_ids"]
        first = self.tokenizer.bos_token_id
        return str(self.tokenizer.bos_token) if first is not None and list(added)[:1] == [first] else ""

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
        """See `CausalModel`. Memory: one chunk of [chunk, vocab] float32 logits and the pass over prompt and response.

        Raises:
            ValueError: there is no prompt, so nothing predicts the first response token.
        """
        if not prompt_ids:
            raise ValueError(f"'{self.spec}': a response cannot be scored without a prompt")
        if not response_ids:
            return
        if not comes_apart(self.network):
            yield from self._score_whole(prompt_ids, response_ids)
            return
        states = self.recall(
            "alone",
            [(prompt_ids, response_ids)],
            lambda: predicting_states(self.network, prompt_ids, response_ids),
        )
        yield from self._chunks(states)

    def _chunks(self, states: Float[Tensor, "token width"]) -> Iterator[LogitsChunk]:
        chunk = self._rows_per_chunk()
        for start in range(0, len(states), chunk):
            yield LogitsChunk(start, self._logits(states[start : start + chunk]))  # with no other name for them

    def _logits(self, states: Float[Tensor, "chunk width"]) -> Float[Tensor, "chunk vocab"]:
        return logits_of(self.network, states)[:, : self.vocab_size].float()

    def _rows_per_chunk(self) -> int:
        """Response positions whose logits are held at a time."""
        limit = _CHUNK_BYTES if self.device.type == "cpu" else _CHUNK_BYTES_ON_GPU
        return max(_LEAST_ROWS, limit // (4 * self.output_size))

    def recall(self, way: str, rows: Sequence[Row], make: Callable[[], Tensor]) -> Float[Tensor, "token width"]:
        """The hidden states that `make` gives, from the score cache where there is one that has them.

        Args:
            way: which kind of pass `make` is.
            rows: what it is fed, as prompts and responses.
            make: a pass of this model's network over them.
        """
        if self.score_cache is None:
            return make()
        attention = str(self.network.config.get_text_config(decoder=True)._attn_implementation)
        made_by = (self.fingerprint, str(self.network.dtype), self.device.type, attention, way)
        return self.score_cache.recall(made_by, rows, make, self.device)

    def with_cache(self, cache: ScoreCache | None) -> "TransformersModel":
        """The same model with another score cache, or none."""
        other = copy(self)
        other.score_cache = cache
        return other

    def _score_whole(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        chunk = self._rows_per_chunk()
        inputs = torch.tensor([*prompt_ids, *response_ids[:-1]], device=self.device)[None]
        first = len(prompt_ids) - 1
        cache = DynamicCache()
        if first:
            self._last_logits(inputs[:, :first], 1, cache)
        for start in range(0, len(response_ids), chunk):
            part = inputs[:, first + start : first + min(start + chunk, len(response_ids))]
            yield LogitsChunk(start, self._last_logits(part, part.shape[1], cache))

    def sampled_logprobs(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]], warp: Warp
    ) -> list[Float64[np.ndarray, " token"]]:
        """Log-probability (nats) of every token of responses to one prompt, many at a time; -inf outside a nucleus."""
        found: dict[int, np.ndarray] = {}
        order = sorted((i for i in range(len(responses)) if responses[i]), key=lambda i: len(responses[i]))
        is_halved = comes_apart(self.network)
        while order:
            width = len(prompt_ids) + len(responses[order[-1]])
            size = max(1, _BATCH_TOKENS // width) if is_halved else 1
            group = order[-size:]
            del order[-size:]
            drawn = self._drawn_logprobs(prompt_ids, [responses[i] for i in group], warp)
            ends = np.cumsum([len(responses[i]) for i in group])[:-1]
            found |= dict(zip(group, np.split(drawn, ends), strict=True))
        return [found.get(i, np.zeros(0)) for i in range(len(responses))]

    def _drawn_logprobs(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]], warp: Warp
    ) -> Float64[np.ndarray, " token"]:
        """Of the tokens of some responses, one after another."""
        tokens = torch.tensor([token for response in responses for token in response], device=self.device)
        parts = []
        for chunk in self._score_together(prompt_ids, responses):
            own = tokens[chunk.start : chunk.start + len(chunk.logits), None]
            parts.append(warp_logprobs(chunk.logits, warp).gather(-1, own)[:, 0].double().cpu().numpy())
        return np.concatenate(parts)

    def _score_together(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> Iterator[LogitsChunk]:
        """`score` of responses to one prompt in one pass, where the network comes apart; else of the only one."""
        if len(responses) == 1:
            yield from self.score(prompt_ids, responses[0])
            return
        rows = [(prompt_ids, response) for response in responses]
        states = self.recall("one prompt", rows, lambda: padded_states(self.network, prompt_ids, responses))
        yield from self._chunks(states)

    @torch.inference_mode()
    def _last_logits(
        self, inputs: Int[Tensor, "1 input"], count: int, cache: DynamicCache
    ) -> Float[Tensor, "count vocab"]:
        """Float32 logits after the last `count` of the inputs, which follow those in the cache and join them."""
        output = self.network(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=count)
        return output.logits[0, :, : self.vocab_size].float()


def load_model(
    text: str,
    *,
    dtype: Dtype = "float32",
    device: str = "cpu",
    prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 - frozen
) -> TransformersModel:
    """Load a model spec and put it on a device.

    Raises:
        UnknownNameError: an unknown bundled name.
        SpecError: nothing that can be loaded is there (see `read_checkpoint`), or the device cannot hold it.
    """
    network, tokenizer, fingerprint = read_checkpoint(parse_model_spec(text), getattr(torch, dtype))
    try:
        network.to(torch.device(device))  # pyright: ignore[reportArgumentType] - its decorator hides `self`
    except (RuntimeError, AssertionError) as error:
        raise SpecError(f"'{text}' cannot be put on device '{device}': {first_line(error)}") from error
    return TransformersModel(text, network, tokenizer, fingerprint, prompt_format)


def _eos_ids(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = getattr(network.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)
