"""Data inside the page: JSON, deflated, in base64; the browser inflates it (assets/start.js).

Base64 holds no `<`, `>` nor `&`, so nothing in it can end its element.
"""

import base64
import json
import zlib
from typing import Any

LEVEL = 6
"""Higher ones take four times as long for a hundredth of the size."""
_BASE64 = 4 / 3


def embed(value: Any) -> str:
    """A JSON-able value as ASCII text for a data element."""
    return base64.b64encode(zlib.compress(_dumps(value), LEVEL)).decode("ascii")


def extract(text: str) -> Any:
    """The value that `embed` was given."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


class DeflatedSize:
    """How much values take up in the page, one after another, without writing any of them twice."""

    FULL = 0.97
    """Share of the limit from which no further value is tried: building one only to drop it costs time."""

    def __init__(self, limit: int):
        """`limit`: bytes of the page."""
        self._limit = limit
        self._deflate = zlib.compressobj(LEVEL)
        self.used = 0.0

    @property
    def is_full(self) -> bool:
        """Whether it is not worth while to try another value."""
        return self.used > self.FULL * self._limit

    def take(self, value: Any) -> bool:
        """Count the value in, or refuse it where it would not fit."""
        tried = self._deflate.copy()
        size = _BASE64 * len(tried.compress(_dumps(value)) + tried.flush(zlib.Z_SYNC_FLUSH))
        if self.used + size > self._limit:
            return False
        self.used += size
        self._deflate = tried
        return True


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
