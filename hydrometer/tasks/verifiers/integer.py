r"""Whole numbers, compared as digits: `72`, `-1,234`, `$72`, `72.00`, `1{,}000`."""

import re

from hydrometer.tasks.verifiers.marks import grade
from hydrometer.types import Grades, Question

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,40}")
"""An answer of a data set, as it is written there."""
_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++"
_WHOLE = re.compile(rf"([-+]?)\$?[ ]?({_NUMBER})(\.[0-9]*+)?[ ]?%?")
_ANYWHERE = re.compile(rf"(?<![\w.^/])(?:(?<![)\]])([-+]))?\$?({_NUMBER})(\.[0-9]++)?(?![\w^]|/[0-9]|,[0-9]|\.[0-9])")
_SPELLINGS = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " "})
_LATEX = (("{,}", ","), ("\\,", ","), ("\\!", ""), ("\\$", "$"), ("\\%", "%"))


def verify_integer(question: Question, response: str) -> Grades:
    """Strict: the marked answer is one number. Relaxed: a number in it, after the word 'answer', or the last one.

    A number with a fraction (`72.5`) is read, and wrong.
    """
    right = _read(question.answer)
    return grade(response, read=_read, search=_search, is_right=lambda found: found == right)


def _plain(text: str) -> str:
    text = text.translate(_SPELLINGS)
    for written, meant in _LATEX:
        text = text.replace(written, meant)
    return text


def _canonical(sign: str, whole: str, fraction: str | None) -> str:
    digits = whole.replace(",", "").lstrip("0") or "0"
    rest = (fraction or "").rstrip("0").removesuffix(".")
    return ("-" if sign == "-" and digits + rest != "0" else "") + digits + rest


def _read(content: str) -> str | None:
    found = _WHOLE.fullmatch(_plain(content).strip())
    return _canonical(*found.groups()) if found else None


def _search(text: str) -> str | None:
    """After the last `=` the first number; in a text that begins with a number, that one; else the last one."""
    plain = _plain(text)
    _, equals, right = plain.rpartition("=")
    found = [_canonical(*match.groups("")) for match in _ANYWHERE.finditer(right)]
    if not found and equals:
        found = [_canonical(*match.groups("")) for match in _ANYWHERE.finditer(plain)]
        return found[-1] if found else None
    if not found:
        return None
    opens = bool(equals) or _ANYWHERE.match(right.lstrip(" \t*_:$(\\")) is not None
    return found[0] if opens else found[-1]
