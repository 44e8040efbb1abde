"""`masked_solution`: the reference solution with parts hidden, always the same parts for the same question.

Every result (what follows an `=` up to the next blank) is hidden with probability 1/2; a line without a result has each
of its words hidden with probability 1/2. On the last line the answer itself is always hidden, and where there are lines
before it nothing else of that line is. At least one part is hidden. A value that is shown elsewhere stays readable:
this is a weaker hint than `solution`, not the absence of one.
"""

import random
import re
from itertools import count

from hydrometer.types import Question

HIDDEN = "__"
_RESULT = re.compile(r"(=\s*)([^\s=]+)")
_WORD = re.compile(r"()(\S+)")


def mask_solution(question: Question) -> str | None:
    """The question's solution with parts replaced by `__`; None where there is none."""
    solution = (question.solution or "").strip()
    if not solution:
        return None
    for attempt in count():  # a short text may come out whole: draw again
        rng = random.Random(f"mask {attempt} {question.task} {question.question_id}")
        masked = _mask(solution, question.answer.strip(), rng)
        if masked != solution:
            return masked
    raise AssertionError("unreachable")


def _mask(solution: str, answer: str, rng: random.Random) -> str:
    *lines, last = solution.splitlines()
    without_answer = re.sub(rf"(?<!\w){re.escape(answer)}(?!\w)", HIDDEN, last) if answer else last
    masked = [_mask_line(line, rng) for line in lines]
    is_answer_line = without_answer != last and lines
    return "\n".join([*masked, without_answer if is_answer_line else _mask_line(without_answer, rng)])


def _mask_line(line: str, rng: random.Random) -> str:
    parts = _RESULT if _RESULT.search(line) else _WORD
    return parts.sub(lambda found: f"{found[1]}{HIDDEN}" if rng.random() < 0.5 else found[0], line)
