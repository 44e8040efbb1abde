"""Makes every character of a model's output visible and harmless to the direction of the text around it.

Spaces, line ends and tabs of a token become marks, control, bidi and other invisible characters become `⟨U+202E⟩`.
Marks are kept apart from the text they stand in, so that a page can draw them faintly and a real `·` is not mistaken
for a space.
"""

import unicodedata

TOKEN_LIMIT = 60
"""Characters of one token that a page shows."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
_TOKEN_MARKS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}
_TEXT_PLAIN = {" ", "\n", "\t"}


def visible_token(token: str, limit: int = TOKEN_LIMIT) -> list[str]:
    """Plain text and marks in turn, plain first: `" a"` gives `["", "·", "a"]`. Cut at `limit` with a note."""
    parts = [""]
    for character in token[:limit]:
        mark = _TOKEN_MARKS.get(character) or _code_point(character)
        is_mark = mark is not None
        if is_mark != (len(parts) % 2 == 0):
            parts.append("")
        if not is_mark and not parts[-1] and unicodedata.category(character).startswith("M"):
            parts[-1] = "◌"  # a combining sign must not land on the token before it
        parts[-1] += mark if mark is not None else character
    if len(token) > limit:
        parts.extend([""] * (len(parts) % 2))
        note = f"… {len(token) - limit:,} more characters"
        parts[-1:] = [parts[-1] + note] if len(parts) % 2 == 0 else [parts[-1], note]
    return parts


def visible_text(text: str, limit: int | None = None) -> str:
    """Running text with its spaces, tabs and line ends as they are, everything else invisible spelled out."""
    shown = "".join(
        character if character in _TEXT_PLAIN else _code_point(character) or character
        for character in (text if limit is None else text[:limit])
    )
    if limit is None or len(text) <= limit:
        return shown
    return f"{shown}\n… {len(text) - limit:,} more characters"


def visible_ends(text: str, limit: int) -> str:
    """Running text of at most about `limit` characters: where it is longer, its middle is left out with a note."""
    if len(text) <= limit:
        return visible_text(text)
    head, tail = text[: limit // 2], text[len(text) - limit // 2 :]
    left_out = len(text) - len(head) - len(tail)
    return f"{visible_text(head)}\n… {left_out:,} characters left out …\n{visible_text(tail)}"


def _code_point(character: str) -> str | None:
    if character == " " or unicodedata.category(character) not in _INVISIBLE:
        return None
    return f"⟨U+{ord(character):04X}⟩"
