"""Which rollouts may be shown as demonstrations.

A demonstration is a `demo` rollout of the question that has the outcome asked for, was not cut off, is not equal to an
analysed response (the teacher would only have to copy it), and says more than the bare answer (or the context would be
the context `answer` under another name).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.types import Question, Rollout

_MARKS = frozenset({"the", "final", "correct", "answer", "is", "it", "so", "therefore", "thus", "hence"}) | {
    "option", "choice", "boxed", "text"
}  # fmt: skip
"""Words that only introduce an answer."""
_WORD = re.compile(r"[-+]?\w+(?:[.,/:]\w+)*%?")
_KINDS = {
    "number": re.compile(r"[-+]?\d[\d.,/:]*%?"),
    "boolean": re.compile(r"yes|no|true|false"),
    "letter": re.compile(r"[a-j]"),
}


class Demonstrations(NamedTuple):
    """What can be shown of one question."""

    correct: Rollout | None
    wrong: Rollout | None


def choose_demonstrations(question: Question, demos: Sequence[Rollout], refuse: Sequence[Rollout]) -> Demonstrations:
    """The first usable correct and wrong rollout of `demos` (see `usable_demonstrations`)."""
    usable = usable_demonstrations(question, demos, refuse)
    return Demonstrations(
        next((rollout for rollout in usable if rollout.correct), None),
        next((rollout for rollout in usable if not rollout.correct), None),
    )


def usable_demonstrations(question: Question, demos: Sequence[Rollout], refuse: Sequence[Rollout]) -> list[Rollout]:
    """Those of `demos` that may be shown; those with the text of one of `refuse` may not."""
    refused = {rollout.text.strip() for rollout in refuse}
    return [
        rollout
        for rollout in demos
        if not rollout.truncated and rollout.text.strip() not in refused and not is_bare_answer(rollout.text, question)
    ]


def is_bare_answer(text: str, question: Question) -> bool:
    """Whether a text says nothing, or nothing but an answer, right or wrong.

    Words that only introduce an answer ("The final answer is") do not count, nor does saying it twice. What is left is
    an answer where it is the question's (wrong) answer, or one word of the same kind: a number, yes or no, a letter.
    """
    said = _words(text)
    if not said:
        return True
    if said in (_words(question.answer), _words(question.wrong_answer or "")):
        return True
    [answer, *others] = _words(question.answer) or [""]
    if len(said) > 1 or others:
        return False
    return any(kind.fullmatch(answer) and kind.fullmatch(said[0]) for kind in _KINDS.values())


def _words(text: str) -> list[str]:
    """Words in order without introductions and repetitions."""
    return list(dict.fromkeys(word for word in _WORD.findall(text.casefold()) if word not in _MARKS))
