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
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.specs import parse_model_spec
from hydrometer.models.tokenized import TokenizedModel

Dtype = Literal["float32", "bfloat16", "float16"]
_CHUNK_ELEMENTS = 1 << 24
"""Float32 logits held at a time by `score`: 64 MiB."""


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
