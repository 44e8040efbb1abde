"""The answer word for word, apart from case, white space, emphasis and a final full stop."""

import re

from hydrometer.tasks.verifiers.marks import MOST_CONTENT, WRONG, clean, find_marked
from hydrometer.types import Grades, Question, Score

_MARK = re.compile(r"^\W{0,20}(?:the\s{1,5})?(?:final\s{1,5})?answer\b\s{0,5}(?:is\b)?\s{0,5}[:=]?\s*", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*\*|__")
_LEADS = (" is", " are", " was", ":", "=")


def verify_exact(question: Question, response: str) -> Grades:
    """Strict: the last non-empty line, with or without a leading 'Answer:', or the whole response is the answer.

    Relaxed: also the last marked answer, or a last line that ends in 'is ANSWER', ': ANSWER' or '= ANSWER'. An empty
    response is unparsed.
    """
    last = response.rstrip().rpartition("\n")[2]
    if not last:
        return Grades(WRONG, WRONG)
    answer = normalise(question.answer)
    said = _MARK.sub("", _EMPHASIS.sub("", last))
    strict = answer in (normalise(said), normalise(last)) or normalise(response) == answer
    relaxed = strict or answer == _marked(response) or _ends_in(normalise(_EMPHASIS.sub("", last)), answer)
    return Grades(Score(float(strict), strict, True), Score(float(relaxed), relaxed, True))


def normalise(text: str) -> str:
    """Casefolded, with single spaces and without a final full stop."""
    return " ".join(text.split()).removesuffix(".").rstrip().casefold()


def _marked(response: str) -> str | None:
    content = find_marked(response)
    return None if content is None or len(content) > MOST_CONTENT else normalise(clean(content))


def _ends_in(line: str, answer: str) -> bool:
    line = line.rstrip("\"'`$).") if not line.endswith(answer) else line
    before = line.removesuffix(answer)
    return bool(answer) and before != line and before.rstrip(" \"'`$(").endswith(_LEADS)
