"""A model given by a function from prefix to next-token probabilities: for tests and for worlds with known truth.

It is student, teacher and sampler at once, draws by the same inverse transform and the same seeds as real samplers, and
has no weights: token id i is the string `tokens[i]`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64

from hydrometer.models.causal import LogitsChunk, warp_logprobs
from hydrometer.sampling.protocol import Continuation, Sampler, SampleRequest, SamplingSettings, numbers, room, settled
from hydrometer.types import Message

NextProbs = Callable[[tuple[int, ...], tuple[int, ...]], Float64[np.ndarray, " vocab"]]
"""(prompt ids, response ids so far) -> probabilities of the next token."""


class ScriptedModel:
    """A `CausalModel` without a network. The prompt ids are the UTF-8 bytes of the messages."""

    def __init__(self, tokens: Sequence[str], next_probs: NextProbs, *, eos: str = "<eos>", name: str = "scripted"):
        self.spec = name
        self.tokens = tuple(tokens)
        self.next_probs = next_probs
        self.parameters = len(self.tokens)
        self.vocab_size = len(self.tokens)
        self.eos_ids = frozenset({self.tokens.index(eos)})
        self.fingerprint = f"scripted:{hashlib.sha256(repr((name, self.tokens)).encode()).hexdigest()}"

    def token_strings(self) -> list[str | None]:
        """See `CausalModel`."""
        return list(self.tokens)

    def render(self, messages: tuple[Message, ...], *, assistant: str = "") -> tuple[int, ...]:
        """See `CausalModel`: the bytes of the text, so that a script can tell prompts apart."""
        return tuple(self.prompt_text(messages, assistant=assistant).encode("utf-8", errors="surrogatepass"))

    def prompt_text(self, messages: tuple[Message, ...], *, assistant: str = "") -> str:
        """See `CausalModel`."""
        return "\n".join(f"{message.role}: {message.content}" for message in messages) + assistant

    def count_tokens(self, text: str) -> int:
        """See `CausalModel`."""
        return len(text.split())

    def decode(self, token_ids: Sequence[int]) -> str:
        """See `CausalModel`."""
        return "".join(self.tokens[i] for i in token_ids if i not in self.eos_ids)

    def token_text(self, token_id: int) -> str:
        """See `CausalModel`."""
        return self.tokens[token_id]

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """See `CausalModel`; a probability of 0 becomes a logit of -1e4."""
        rows = [self.next_logits(tuple(prompt_ids), tuple(response_ids[:t])) for t in range(len(response_ids))]
        if rows:
            yield LogitsChunk(0, torch.stack(rows))

    def next_logits(
        self, prompt_ids: tuple[int, ...], response_ids: tuple[int, ...]
    ) -> Float32[torch.Tensor, " vocab"]:
        """Logarithms of the script's probabilities on the shared vocabulary (its mass may be less than 1)."""
        with np.errstate(divide="ignore"):
            logs = np.log(self.next_probs(prompt_ids, response_ids)[: self.vocab_size])
        return torch.from_numpy(np.maximum(logs, -1e4)).float()

    def sampler(self, settings: SamplingSettings) -> Sampler:
        """Draws from this model."""
        return _ScriptedSampler(self, settings)


class _ScriptedSampler:
    def __init__(self, model: ScriptedModel, settings: SamplingSettings):
        self.model = model
        self.settings = settings

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        return [settled(request, self.settings, self.model.eos_ids) or self._draw(request) for request in requests]

    def _draw(self, request: SampleRequest) -> Continuation:
        token_ids: list[int] = []
        logprobs: list[float] = []
        for number in numbers(request, room(request, self.settings)):
            read = (*request.prefix_ids, *token_ids)
            logits = torch.stack([w * self.model.next_logits(ids, read).double() for ids, w in request.prompts]).sum(0)
            warped = warp_logprobs(logits, self.settings.warp).exp().numpy()
            cumulative = warped.cumsum()
            token_ids.append(int(np.searchsorted(cumulative, min(number, 1 - 1e-12) * cumulative[-1], side="right")))
            logprobs.append(float(np.log(warped[token_ids[-1]])))
            if token_ids[-1] in self.model.eos_ids:
                return Continuation(tuple(token_ids), tuple(logprobs), True)
        return Continuation(tuple(token_ids), tuple(logprobs), False)
