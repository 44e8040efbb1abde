"""Whether two fingerprints are of one model.

A model read from files has the hash of its files. One that somebody else serves shows none of its files: it goes by its
tokenizer's hash and by the log-probabilities (nats) that it gives to a fixed text, which rounding may move.

    vllm:TOKENIZER-HASH:-10.32,-11.05,...
"""

from collections.abc import Sequence

_SERVED = "vllm:"
_TOLERANCE_NATS = 0.15
"""On each number, a mean over tokens: more than the rounding of bfloat16 moves it."""


def served_fingerprint(tokenizer_hash: str, numbers: Sequence[float]) -> str:
    """The fingerprint of a model that is known by what it says."""
    return f"{_SERVED}{tokenizer_hash}:{','.join(f'{number:.3f}' for number in numbers)}"


def is_same_model(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints may stand for the same weights."""
    if one is None or other is None or not (one.startswith(_SERVED) and other.startswith(_SERVED)):
        return one == other
    (first, numbers), (second, others) = (text.rsplit(":", 1) for text in (one, other))
    return first == second and are_close(_read(numbers), _read(others))


def are_close(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two measurements of the fixed text are the same up to rounding."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(abs(a - b) <= _TOLERANCE_NATS for a, b in pairs)


def _read(numbers: str) -> list[float]:
    return [float(number) for number in numbers.split(",")]
