"""The letter of a multiple-choice answer. The choices are the lines `A. text` (or `A)`, `(A)`) of the prompt."""

import re

from hydrometer.tasks.verifiers.marks import clean, grade
from hydrometer.types import Grades, Question

_CHOICE_LINE = re.compile(r"^\(?([A-J])[.):][ \t]+(\S.*)$", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Ja-j])\)?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])(?:\s.*)?", re.DOTALL)
_NAMED = re.compile(r"\b(?:option|choice|letter)[ \t*_(]{0,4}([A-J])(?![A-Za-z])|\(([A-J])\)", re.IGNORECASE)
_ALONE = re.compile(r"(?<![A-Za-z'’])([A-J])(?![A-Za-z'’])(?! [a-z])")


def verify_choice(question: Question, response: str) -> Grades:
    """Strict: the marked answer is a letter, bare or with its choice (`B`, `(b)`, `B. 24`).

    Relaxed: also the text of exactly one choice after a mark, or the last letter that stands for a choice near the end.
    A letter that the question does not offer is no answer.
    """
    choices = {letter: clean(text).casefold() for letter, text in _CHOICE_LINE.findall(question.prompt[-1].content)}
    letters = set(choices) or set("ABCDEFGHIJ")
    right = question.answer.strip().upper()

    def read(content: str) -> str | None:
        found = _LETTER.fullmatch(content) or _LETTER_AND_TEXT.fullmatch(content)
        letter = next(filter(None, found.groups())).upper() if found else None
        return letter if letter in letters else None

    def search(text: str) -> str | None:
        content = clean(text)
        if (letter := read(content)) is not None:
            return letter
        same = [letter for letter, choice in choices.items() if choice == content.casefold()]
        if len(same) == 1:
            return same[0]
        for pattern in (_NAMED, _ALONE):
            found = [next(filter(None, match.groups())).upper() for match in pattern.finditer(text)]
            if offered := [letter for letter in found if letter in letters]:
                return offered[-1]
        return None

    return grade(response, read=read, search=search, is_right=lambda letter: letter == right)
