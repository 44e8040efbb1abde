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
from hydrometer.models.causal import LogitsChunk, Warp
from hydrometer.models.checkpoints import first_line, read_checkpoint
from hydrometer.models.halves import PASS_TOKENS, comes_apart, logits_of, response_states
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.score_cache import Row, ScoreCache
from hydrometer.models.specs import parse_model_spec
from hydrometer.models.tokenized import TokenizedModel
from hydrometer.models.walking import drawn_logprobs, walk_each

Dtype = Literal["float32", "bfloat16", "float16"]
_CHUNK_BYTES = 16 << 20
"""Of the float32 logits held at a time on the CPU. Above 32 MiB every allocation is of fresh pages."""
_CHUNK_BYTES_ON_GPU = 128 << 20
_LEAST_ROWS = 32
"""With fewer rows the output layer spends its time on reading its weights."""


class TransformersModel(TokenizedModel):
    """Owns a loaded model and its tokenizer, and knows how its prompts are written."""

    def __init__(
        self,
        spec: str,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fingerprint: str,
        prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 - frozen
    ):
        output_size = int(network.get_output_embeddings().weight.shape[0])  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
        super().__init__(spec, tokenizer, network.generation_config, output_size, prompt_format)
        self.network = network.eval()
        self.fingerprint = fingerprint
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.device = network.device
        self.score_cache: ScoreCache | None = None
        """Of a model whose weights are those of its fingerprint and stay as they are."""

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """See `CausalModel`. Memory: one chunk of [chunk, vocab] float32 logits and the pass over prompt and response.

        Raises:
            ValueError: there is no prompt, so nothing predicts the first response token.
        """
        [chunks] = self.score_each(prompt_ids, [response_ids])
        yield from chunks

    def score_each(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]
    ) -> Iterator[Iterator[LogitsChunk]]:
        """See `ScoresTogether`; raises as `score` does. Memory: hidden states of a pass, and one chunk of logits."""
        if not prompt_ids:
            raise ValueError(f"'{self.spec}': a response cannot be scored without a prompt")
        if not comes_apart(self.network):
            yield from (self._score_whole(prompt_ids, response) for response in responses)
            return
        for group in _group(prompt_ids, responses):
            rows = [(prompt_ids, response) for response in group]
            states = self.recall("scores", rows, lambda group=group: response_states(self.network, prompt_ids, group))
            yield from map(self._chunks, states.split([len(response) for response in group]))

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
        """Log-probability (nats) of every token of responses to one prompt; -inf outside a nucleus."""
        walks = walk_each(self, prompt_ids, responses)
        return [drawn_logprobs(walk, response, warp) for walk, response in zip(walks, responses, strict=True)]

    @torch.inference_mode()
    def _last_logits(
        self, inputs: Int[Tensor, "1 input"], count: int, cache: DynamicCache
    ) -> Float[Tensor, "count vocab"]:
        """Float32 logits after the last `count` of the inputs, which follow those in the cache and join them."""
        output = self.network(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=count)
        return output.logits[0, :, : self.vocab_size].float()


def _group(prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Responses that fit a pass together, in their order."""
    group: list[Sequence[int]] = []
    tokens = 0
    for response in responses:
        if group and tokens + len(response) > PASS_TOKENS:
            yield group
            group = []
        tokens = (tokens if group else len(prompt_ids)) + len(response)
        group.append(response)
    if group:
        yield group


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
        SpecError: nothing that can be loaded is there (see `read_checkpoint`), the device cannot hold it, or vLLM is to
            run it.
    """
    spec = parse_model_spec(text)
    if spec.is_vllm:
        raise SpecError(f"'{text}' is run by vLLM, and its weights are asked for here. Name the folder or id itself.")
    network, tokenizer, fingerprint = read_checkpoint(spec, getattr(torch, dtype))
    try:
        network.to(torch.device(device))  # pyright: ignore[reportArgumentType] - its decorator hides `self`
    except (RuntimeError, AssertionError) as error:
        raise SpecError(f"'{text}' cannot be put on device '{device}': {first_line(error)}") from error
    return TransformersModel(text, network, tokenizer, fingerprint, prompt_format)
