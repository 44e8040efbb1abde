"""A transformers checkpoint as a `CausalModel`: loading with clear errors, and scoring in bounded memory.

Scoring prefills the prompt and then feeds the response in chunks over the key-value cache, so that the model's own
forward makes the logits (soft caps and scales included) and never more than one chunk of full-vocabulary logits exists.
"""

from collections.abc import Iterator, Sequence
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
from hydrometer.models.prompting import PromptFormat, knows_variable, open_turn, render_plain
from hydrometer.models.specs import parse_model_spec
from hydrometer.models.transformers_conventions import read_conventions
from hydrometer.types import Message

Dtype = Literal["float32", "bfloat16", "float16"]
_CHUNK_ELEMENTS = 1 << 24
"""Float32 logits held at a time by `score`: 64 MiB."""


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
    def sampled_logprobs(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]], warp: Warp
    ) -> list[Float64[np.ndarray, " token"]]:
        """Log-probability (nats) of every token of responses to one prompt, many at a time; -inf outside a nucleus.

        Memory: [row, token, vocab] float32 logits of at most 64 MiB (one response at the least).
        """
        found: dict[int, np.ndarray] = {}
        order = sorted((i for i in range(len(responses)) if responses[i]), key=lambda i: len(responses[i]))
        while order:
            longest = len(responses[order[-1]])
            rows = order[-max(1, _CHUNK_ELEMENTS // (longest * self.output_size)) :]
            del order[-len(rows) :]
            padded = torch.zeros(len(rows), longest, dtype=torch.int64, device=self.device)
            for place, row in enumerate(rows):
                padded[place, : len(responses[row])] = torch.tensor(responses[row], device=self.device)
            prompts = torch.tensor(prompt_ids, device=self.device).expand(len(rows), -1)
            # what stands right of a response is padding, which a causal model does not see from the left
            inputs = torch.cat([prompts, padded[:, :-1]], dim=1)
            logits = self.network(input_ids=inputs, use_cache=False, logits_to_keep=longest).logits
            logprobs = warp_logprobs(logits[..., : self.vocab_size].float(), warp)
            drawn = logprobs.gather(-1, padded[..., None])[..., 0].double().cpu().numpy()
            found |= {row: drawn[place, : len(responses[row])] for place, row in enumerate(rows)}
        return [found.get(i, np.zeros(0)) for i in range(len(responses))]

    @torch.inference_mode()
    def _last_logits(
        self, inputs: Int[Tensor, "1 input"], count: int, cache: DynamicCache | None
    ) -> Float[Tensor, "count vocab"]:
        """Float32 logits after the last `count` of the inputs, which follow those in the cache (and join them)."""
        use_cache = cache is not None
        output = self.network(input_ids=inputs, past_key_values=cache, use_cache=use_cache, logits_to_keep=count)
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
