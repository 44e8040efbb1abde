"""The seam between whoever wants continuations and whatever draws them.

Every request carries its own seed. A continuation depends on its request alone: on one machine, and within the rounding
of the model's forward pass (float32: log-probabilities within 1e-4 nats), not on the requests it shared a batch with.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from hydrometer.models import Warp
from hydrometer.sampling.seeding import uniforms
from hydrometer.types import WeightedPrompt


class SamplingSettings(NamedTuple):
    """How responses are drawn. Stock generation configs (top_k, repetition penalties) are ignored on purpose."""

    max_response_tokens: int
    """Limit on prefix plus continuation."""
    warp: Warp = Warp()


class SampleRequest(NamedTuple):
    """One continuation to draw."""

    prompt_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    """Response tokens that are given; the continuation follows them."""
    seed: int
    most_tokens: int | None = None
    """Draw at most so many (>= 1), where the settings would allow more."""
    mixture: tuple[WeightedPrompt, ...] = ()
    """Where it is not empty, each token is drawn from the normalised weighted geometric mean of what the model says
    after these prompts; `prompt_ids` is then one of them."""

    @property
    def prompts(self) -> tuple[WeightedPrompt, ...]:
        """The mixture, or the one prompt."""
        return self.mixture or (WeightedPrompt(self.prompt_ids, 1.0),)


class Continuation(NamedTuple):
    """The free tokens of one response."""

    token_ids: tuple[int, ...]
    """Without the prefix; a sampled end-of-sequence token is included."""
    logprobs: tuple[float, ...]
    """Of the sampled tokens, under the warped distribution they were drawn from, in nats."""
    ended: bool
    """True where an end-of-sequence token closed the response, False where the length limit did."""


@runtime_checkable
class Sampler(Protocol):
    """Draws continuations."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        """One continuation per request, in the order of the requests."""
        ...


def room(request: SampleRequest, settings: SamplingSettings) -> int:
    """How many tokens may be drawn for a request."""
    left = settings.max_response_tokens - len(request.prefix_ids)
    return left if request.most_tokens is None else min(left, request.most_tokens)


def numbers(request: SampleRequest, count: int) -> Float64[np.ndarray, " count"]:
    """The uniform numbers that the first `count` tokens of a continuation are drawn with."""
    return uniforms(request.seed, count)


def settled(request: SampleRequest, settings: SamplingSettings, eos_ids: frozenset[int]) -> Continuation | None:
    """The continuation of a request that leaves nothing to draw: its prefix has ended, or fills the limit."""
    if request.prefix_ids and request.prefix_ids[-1] in eos_ids:
        return Continuation((), (), True)
    if len(request.prefix_ids) >= settings.max_response_tokens:
        return Continuation((), (), False)
    return None
