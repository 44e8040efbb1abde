"""Text of unknown origin made safe to print: no control character reaches the terminal, nothing fails to encode."""

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and newline, overrides of the writing direction, lone surrogates."""


def printable(text: str) -> str:
    """`text` with unsafe characters written as their escapes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
