"""What every model offers, whatever runs it: text in and out of tokens, and logits at every response position.

Position convention: `score(prompt, response)` yields, for t = 0 .. len(response) - 1, the logits that predict response
token t, that is the model's output after the prompt and the first t response tokens.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from hydrometer.models.score_cache import ScoreCache
from hydrometer.types import Message


class LogitsChunk(NamedTuple):
    """Logits of consecutive response positions `start ..`, float32, [chunk, vocab]."""

    start: int
    logits: Float[Tensor, "chunk vocab"]


@runtime_checkable
class CausalModel(Protocol):
    """A student or teacher. `vocab_size` is how many leading token ids are shared by all models of a run."""

    spec: str
    fingerprint: str
    parameters: int
    vocab_size: int
    eos_ids: frozenset[int]

    def token_strings(self) -> list[str | None]:
        """The tokenizer's own string of every id (None where an id means nothing)."""
        ...

    def render(self, messages: tuple[Message, ...], *, assistant: str = "") -> tuple[int, ...]:
        """Prompt ids: the chat template with the assistant's turn opened, then the text `assistant`."""
        ...

    def prompt_text(self, messages: tuple[Message, ...], *, assistant: str = "") -> str:
        """The text that `render` turns into ids."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens a piece of text takes, without special tokens."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of response ids; special tokens (end of sequence) are left out."""
        ...

    def token_text(self, token_id: int) -> str:
        """Text of one token, special tokens included."""
        ...

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """Logits before every response token, a bounded chunk at a time."""
        ...


@runtime_checkable
class ScoresTogether(Protocol):
    """A model that computes a prompt once for several responses to it."""

    def score_each(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]
    ) -> Iterator[Iterator[LogitsChunk]]:
        """What `CausalModel.score` gives for each of them, as many at a time as fit a pass."""
        ...


@runtime_checkable
class Cached(Protocol):
    """A model whose scores may come from a score cache."""

    def with_cache(self, cache: ScoreCache | None) -> CausalModel:
        """The same model with another score cache, or none."""
        ...


def uncached(model: CausalModel) -> CausalModel:
    """The model as it scores by passes of its own."""
    return model.with_cache(None) if isinstance(model, Cached) else model


class Warp(NamedTuple):
    """How logits become the distribution that is sampled from."""

    temperature: float = 1.0
    top_p: float = 1.0


GREEDY = Warp(top_p=1e-9)
"""A nucleus of one token."""


def warp_logprobs(logits: Float[Tensor, "*batch vocab"], warp: Warp) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities after temperature and nucleus truncation; tokens outside the nucleus get -inf.

    The nucleus is the smallest set of most probable tokens whose mass reaches `top_p` (the crossing token is in).
    """
    if warp.temperature != 1.0:
        logits = logits / warp.temperature
    logprobs = logits.log_softmax(-1)
    if warp.top_p >= 1.0:
        return logprobs
    ordered, index = logprobs.sort(dim=-1, descending=True, stable=True)
    mass_before = ordered.exp().cumsum(-1) - ordered.exp()
    outside = (mass_before >= warp.top_p).scatter(-1, index, mass_before >= warp.top_p)
    return logprobs.masked_fill(outside, -torch.inf).log_softmax(-1)
