"""The seam between a model and whatever runs it with vLLM: token ids in, token ids and log-probabilities out.

An answer depends on its request alone, up to the rounding of the forward pass: every request brings its seed and every
option of vLLM's that shapes a distribution, so that no default of a server or of a generation config takes part.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from hydrometer.errors import UserError
from hydrometer.models.causal import Warp


class EngineError(UserError):
    """An engine that cannot go on: unreachable, changed, or without sense in what it says."""


class RefusedError(UserError):
    """An engine that understood a request and does not grant it."""


class EngineRequest(NamedTuple):
    """One text to be continued."""

    prompt_ids: tuple[int, ...]
    most_tokens: int = 1
    seed: int | None = None
    """None where it does not matter what is drawn."""
    warp: Warp = Warp()
    end_ids: tuple[int, ...] = ()
    """What ends the continuation; nothing else does."""
    banned_ids: tuple[int, ...] = ()
    """Never drawn."""
    top: int = 0
    """Most probable tokens whose log-probabilities are asked for at every drawn token."""
    reads_prompt: bool = False
    """Whether the log-probabilities of the prompt's own tokens are asked for."""

    def options(self) -> dict[str, Any]:
        """The sampling parameters under the names that vLLM gives them."""
        return {
            "n": 1,
            "max_tokens": self.most_tokens,
            "min_tokens": 0,
            "seed": self.seed,
            "temperature": self.warp.temperature,
            "top_p": self.warp.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": [],
            "stop_token_ids": list(self.end_ids),
            "ignore_eos": True,  # ends are those of the model's files, whatever the engine takes for one
            "logit_bias": dict.fromkeys(self.banned_ids, -100.0) or None,
            "logprobs": self.top,
            "prompt_logprobs": 0 if self.reads_prompt else None,
            "watermarking": False,
        }


class EngineAnswer(NamedTuple):
    """What the engine drew."""

    token_ids: tuple[int, ...]
    """A drawn end is included."""
    logprobs: tuple[float, ...]
    """Of the drawn tokens, in nats; under which distribution depends on the engine's logprobs mode."""
    top: tuple[dict[int, float], ...] = ()
    """At every drawn token: log-probabilities by token id, where more than the drawn one's were asked for."""
    prompt_logprobs: tuple[float, ...] = ()
    """Of the prompt's tokens from the second on, where they were asked for."""

    def row(self, size: int) -> Float32[np.ndarray, " vocab"]:
        """The log-probabilities before the first drawn token, of the ids below `size`.

        Raises:
            EngineError: some of them are missing.
        """
        values = np.full(size, np.nan, dtype=np.float32)
        for token_id, logprob in self.top[0].items():
            if token_id < size:
                values[token_id] = logprob
        if missing := int(np.isnan(values).sum()):
            raise EngineError(f"asked for the log-probabilities of {size:,} tokens, vLLM left out {missing:,} of them.")
        return values


@runtime_checkable
class Engine(Protocol):
    """Runs one model."""

    context_tokens: int
    """Limit on prompt plus continuation."""
    identity: tuple[float, ...]
    """What its model says of a fixed text (see `abilities`)."""
    say: Callable[[str], None]
    """Told what a person who waits should know."""

    def answer(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """One answer per request, in their order.

        Raises:
            RefusedError: a request is not granted.
            EngineError: the engine is gone for good, or its answers make no sense.
        """
        ...


@runtime_checkable
class Served(Protocol):
    """A model whose probabilities come from an engine."""

    engine: Engine

    @property
    def cap(self) -> int | None:
        """Log-probabilities per token at most; None: the whole vocabulary."""
        ...

    def require_whole_vocabulary(self) -> None:
        """Raise SpecError where there is a cap."""
        ...


def say_nothing(_: str) -> None:
    """For a run without an audience."""


def check_answer(request: EngineRequest, answer: EngineAnswer) -> EngineAnswer:
    """The answer, where it is one to the request.

    Raises:
        EngineError: it is not; the text says why.
    """
    ids, logprobs = answer.token_ids, answer.logprobs
    if not 1 <= len(ids) <= request.most_tokens:
        raise EngineError(f"it drew {len(ids)} tokens where 1 to {request.most_tokens} were asked for.")
    if len(logprobs) != len(ids) or not np.isfinite(logprobs).all():
        raise EngineError(f"{len(ids)} drawn tokens came with {len(logprobs)} log-probabilities.")
    if max(logprobs) > 1e-3:
        raise EngineError(
            f"a log-probability of {max(logprobs):.3g} is above 0. Logits are no log-probabilities: start vLLM with "
            "--logprobs-mode processed_logprobs."
        )
    if any(i in request.end_ids for i in ids[:-1]):
        raise EngineError("a response goes on after an end-of-sequence token.")
    if len(ids) < request.most_tokens and ids[-1] not in request.end_ids:
        raise EngineError(
            f"a response stops after {len(ids)} of {request.most_tokens} tokens with token {ids[-1]}, which ends "
            "nothing by the model's files."
        )
    if request.top and len(answer.top) != len(ids):
        raise EngineError(f"{len(ids)} drawn tokens came with {len(answer.top)} lists of probable tokens.")
    if request.reads_prompt and len(answer.prompt_logprobs) != len(request.prompt_ids) - 1:
        raise EngineError(f"{len(request.prompt_ids)} prompt tokens came with {len(answer.prompt_logprobs)} scores.")
    return answer
