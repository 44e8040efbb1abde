r"""Where a response states its final answer.

A *mark* is `Answer: X`, `\boxed{X}` or, at the start of a line, `#### X`; the last one in the response decides. Every
search is linear in the length of the response: patterns run over the whole text only where nothing in them can be
tried twice, all others over at most `MOST_CONTENT` or `TAIL` characters.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hydrometer.types import Grades, Score

MOST_CONTENT = 2000
"""Characters of a marked answer; a longer one is no answer."""
TAIL = 400
"""Characters at the end of a response in which relaxed grading looks for an answer."""

WRONG = Score(0.0, False, False)
"""Nothing could be read."""

Parsed = TypeVar("Parsed")

_MARK = re.compile(r"\banswer[*_ \t]{0,6}[:：]|^[ \t]{0,3}####(?!#)|\\boxed[ \t]{0,3}\{", re.IGNORECASE | re.MULTILINE)
_LOOSE = re.compile(r"\banswer\b(?:[*_ \t]{0,6}(?:is|was|=|[:：\-–])){0,3}", re.IGNORECASE)
_WRAPPED = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|boxed)[ \t]{0,3}\{([^{}]*)\}")
_EDGES = "*_`\"'“”’ \t\r\n"


def find_marked(response: str) -> str | None:
    r"""What stands after the last mark (to the end of its line, or within the braces of `\boxed`), as written.

    None where there is no mark, or the last `\boxed` is never closed. Empty where nothing follows the mark.
    """
    marks = deque(_MARK.finditer(response), maxlen=1)
    if not marks:
        return None
    last = marks[0]
    boxed_end = -1
    if last[0].endswith("{"):
        return _braced(response, last.end())
    if (box := response.rfind("\\boxed{", 0, last.start())) >= 0 and (inside := _braced(response, box + 7)) is not None:
        boxed_end = box + 7 + len(inside)
    end = response.find("\n", last.end())
    end = len(response) if end < 0 else end
    if last.end() <= boxed_end < end:
        end = boxed_end  # \boxed{Answer: 4}
    return response[last.end() : end]


def _braced(response: str, start: int) -> str | None:
    """The text from `start` to the brace that closes the one before it."""
    depth = 1
    window = response[start : start + MOST_CONTENT]
    for found in re.finditer(r"\\.|[{}]", window, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return window[: found.start()]
    return None


def clean(content: str) -> str:
    r"""An answer without markup around it: emphasis, quotes, `$`, `\(`, `\text{}`, a final full stop.

    Content of more than `MOST_CONTENT` characters is no answer: it becomes the empty text.
    """
    text = content.strip()
    if len(text) > MOST_CONTENT:
        return ""
    while True:
        before = text
        text = text.strip(_EDGES).removesuffix(".").removesuffix("!").strip(_EDGES)
        for left, right in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right):
                text = text[len(left) : len(text) - len(right)]
        text = _WRAPPED.sub(r"\1", text) if _WRAPPED.fullmatch(text) else text
        if text == before:
            return text


def tail(response: str) -> str:
    """The last `TAIL` characters, from the start of a word on."""
    text = response.rstrip()
    return text if len(text) <= TAIL else text[-TAIL:].partition(" ")[2]


def find_loosely(response: str) -> str | None:
    """What follows the last 'answer is', 'answer' or the like in the tail of a response, to the end of its line.

    Where its line ends there, the next line that is not empty.
    """
    text = tail(response)
    found = deque(_LOOSE.finditer(text), maxlen=1)
    if not found:
        return None
    lines = [line for line in text[found[0].end() :].split("\n") if line.strip(_EDGES + ":")]
    return lines[0] if lines else None


def grade(
    response: str,
    *,
    read: Callable[[str], Parsed | None],
    search: Callable[[str], Parsed | None],
    is_right: Callable[[Parsed], bool],
) -> Grades:
    """Strict: the marked answer as `read` from its cleaned text. Relaxed: that, or else what `search` finds.

    `search` is tried on the marked text, on what follows the word 'answer', and on the tail of the response.
    """
    marked = find_marked(response)
    strict = None if marked is None else read(clean(marked))
    if strict is not None:
        return Grades.same(_score(is_right(strict)))
    for text in (marked, find_loosely(response), tail(response)):
        if text is not None and len(text) <= MOST_CONTENT and (found := search(text)) is not None:
            return Grades(WRONG, _score(is_right(found)))
    return Grades(WRONG, WRONG)


def _score(correct: bool) -> Score:
    return Score(float(correct), correct, True)
