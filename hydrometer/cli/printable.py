"""Text of unknown origin made safe to print: no control characters, no secrets, nothing that fails to encode."""

import re

from hydrometer.credentials import hide_secrets

_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters but for tab and newline, marks and overrides of the writing direction, other line ends, invisible
tags, lone surrogates."""


def printable(text: str) -> str:
    """`text` without its secrets, and with unsafe characters written as their escapes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), hide_secrets(text))
