"""Failed allocations as one sentence that names the option to turn."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hydrometer.errors import MemoryLimitError

_SAID_BY_BACKENDS = ("out of memory", "allocate memory", "bad_alloc", "not enough memory")
"""How backends without an exception of their own put it."""


@contextmanager
def explain_memory(advice: str) -> Iterator[None]:
    """Raise MemoryLimitError with `advice` where what is inside runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error).lower()
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(said in words for said in _SAID_BY_BACKENDS):
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise MemoryLimitError(f"Out of memory ({first[:200]}). {advice}") from error
