"""What an engine is able to, found out by asking it: its identity, its cap on log-probabilities, what these are of.

A server shows none of its weights, so its model goes by what it says: the log-probabilities of a fixed text of token
ids, in `_PARTS` means. vLLM reports log-probabilities in one of two modes: `raw` before temperature and top-p,
`processed` after them. In a nucleus of one token the processed log-probability is 0 and the raw one is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hydrometer.models.causal import GREEDY
from hydrometer.models.vllm.engine import Engine, EngineAnswer, EngineRequest, RefusedError

_PARTS = 8
_TOKENS_OF_PART = 8
_STEP = 7919
"""A prime, so that the fixed text runs over the whole vocabulary."""
_CERTAIN_NATS = 1e-4

Ask = Callable[[EngineRequest], EngineAnswer]


@dataclass(frozen=True, slots=True)
class Abilities:
    """Of one engine with one model."""

    cap: int | None
    """Log-probabilities per token at most; None: the whole vocabulary."""
    is_processed: bool
    """Whether reported log-probabilities are those of the distribution that was drawn from."""


def measure_identity(ask: Ask, vocab_size: int, context_tokens: int) -> tuple[float, ...]:
    """Mean log-probabilities (nats) of the parts of a fixed text; a little changes with rounding, much with weights."""
    length = min(_PARTS * _TOKENS_OF_PART + 1, context_tokens - 1)
    text = tuple(number * _STEP % vocab_size for number in range(1, length + 1))
    answer = ask(EngineRequest(text, reads_prompt=True))
    return tuple(float(np.mean(part)) for part in np.array_split(answer.prompt_logprobs, _PARTS))


def find_abilities(engine: Engine, vocab_size: int) -> Abilities:
    """Ask for the whole vocabulary, and where that is refused for the most that is granted."""
    prompt = tuple(number * _STEP % vocab_size for number in range(1, 4))

    def ask(request: EngineRequest) -> EngineAnswer:
        return engine.answer([request])[0]

    [greedy] = ask(EngineRequest(prompt, warp=GREEDY)).logprobs
    is_processed = abs(greedy) < _CERTAIN_NATS
    if _grants(ask, prompt, vocab_size):
        ask(EngineRequest(prompt, top=vocab_size)).row(vocab_size)
        return Abilities(None, is_processed)
    granted, refused = 0, vocab_size
    while refused - granted > 1:
        middle = (granted + refused) // 2
        granted, refused = (middle, refused) if _grants(ask, prompt, middle) else (granted, middle)
    return Abilities(granted, is_processed)


def _grants(ask: Ask, prompt: tuple[int, ...], top: int) -> bool:
    try:
        ask(EngineRequest(prompt, top=top))
    except RefusedError:
        return False
    return True
