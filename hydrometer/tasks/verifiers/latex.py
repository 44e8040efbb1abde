r"""Mathematical expressions, compared by value with math-verify: `\frac{1}{2}` is `0.5`, `(3, \pi/2)` is a pair.

Answers written alike are equal before anything is computed, and an answer in words (`\text{Evelyn}`) is compared as
words only. math-verify treats expressions that it cannot compare as different; its own time limits are off, because
the process that runs a verifier has one that also ends what a signal cannot interrupt.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from hydrometer.tasks.verifiers.marks import clean, grade
from hydrometer.types import Grades, Question

_WORDS = re.compile(r"(?:\\text|\\textbf|\\textrm|\\mathrm)[ ]?\{[^{}]*\}|[A-Za-z][a-z]{2,}(?: [a-z]+){0,5}")
_MOST_WORDS = 80
"""Characters of an answer in words."""
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|cot|sec|csc|log|exp|inf|infty|theta)\b)[A-Za-z]{3,}"
    r"|(?<![\\A-Za-z])[A-Za-z]{2}[ ]+[A-Za-z]{2}\b"
)
"""Words outside of LaTeX commands: math-verify would read them as products of variables."""
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox|begin|end)[ ]?\{[^{}]*\}")
_SPELLINGS = (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""))


class _Said(NamedTuple):
    text: str
    value: tuple[Any, ...]
    """What math-verify read: sympy expressions."""


def verify_math(question: Question, response: str) -> Grades:
    """Strict: the marked answer, as LaTeX or plain text, has the value of the answer.

    Relaxed: also the last expression that math-verify finds after a mark, after the word 'answer' or near the end.
    """
    answer = question.answer.strip()
    if _WORDS.fullmatch(answer):
        read = search = _read_words
    else:
        read, search = _read_expression, _search
    return grade(response, read=read, search=search, is_right=lambda said: _is_right(answer, said))


def _is_right(answer: str, said: _Said) -> bool:
    from math_verify import verify

    if _spelling(clean(answer)) == _spelling(said.text):
        return True
    if not said.value:
        return False
    return bool(verify(list(_parse_answer(answer)), list(said.value), timeout_seconds=None))  # type: ignore[arg-type]


def _spelling(text: str) -> str:
    for written, meant in _SPELLINGS:
        text = text.replace(written, meant)
    return re.sub(r"\s+", "", text).casefold() if _WORDS.fullmatch(text) else re.sub(r"\s+", "", text)


def _read_words(content: str) -> _Said | None:
    words = clean(content)
    return _Said(words, ()) if 0 < len(words) <= _MOST_WORDS else None


def _read_expression(content: str) -> _Said | None:
    if not content or _PROSE.search(_TEXT.sub("", content)):
        return None
    value = _parse(f"\\boxed{{{content}}}")
    return _Said(content, value) if value else None


def _search(text: str) -> _Said | None:
    if said := _read_expression(clean(text)):
        return said
    value = _parse(text)
    return _Said(clean(text), value) if value else None


@lru_cache(maxsize=4096)
def _parse_answer(answer: str) -> tuple[Any, ...]:
    return _parse(f"\\boxed{{{clean(answer)}}}")


def _parse(text: str) -> tuple[Any, ...]:
    from math_verify import parse

    return tuple(parse(text, fallback_mode="no_fallback", parsing_timeout=None))  # type: ignore[arg-type]
