"""Yes or no. `true` and `false` mean the same."""

import re

from hydrometer.tasks.verifiers.marks import grade
from hydrometer.types import Grades, Question

_WORD = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)


def verify_boolean(question: Question, response: str) -> Grades:
    """Strict: the marked answer is yes or no. Relaxed: it begins so, or else the last yes or no near the end."""
    right = _value(question.answer)
    return grade(response, read=_read, search=_search, is_right=lambda said: said == right)


def _value(word: str) -> str:
    return {"true": "yes", "false": "no"}.get(lower := word.strip().casefold(), lower)


def _read(content: str) -> str | None:
    return _value(content) if _WORD.fullmatch(content) else None


def _search(text: str) -> str | None:
    """The first one where it opens the text, else the last one."""
    found = _WORD.findall(text)
    if not found:
        return None
    return _value(found[0] if _WORD.match(text.lstrip(" \t*_:-–—,\"'(")) else found[-1])
