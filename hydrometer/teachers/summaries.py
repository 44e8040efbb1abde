"""Summaries of demonstrations: what a model is asked, and which of its texts may be shown."""

from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.teachers.contexts import Frame, apply_frame
from hydrometer.teachers.demonstrations import is_bare_answer
from hydrometer.types import Message, Question, Rollout

REQUEST = Frame(
    user="$prompt\n\nHere is a response to this:\n$response\n\nDo not solve it again. List the key steps of the "
    "response in a few short lines, and leave out everything else.",
    slots=("response",),
)
"""What the summariser is asked; it is not told whether the response is right."""


class Summary(NamedTuple):
    """A condensed demonstration; `reason` says why where it must not be shown."""

    text: str
    reason: str | None = None


def request_summary(question: Question, demonstration: Rollout) -> tuple[Message, ...]:
    """The messages that ask for a summary of a response to a question."""
    return apply_frame(REQUEST, question.prompt, {"response": demonstration.text.strip()})


def screen_summary(
    written: Rollout, question: Question, demonstration: Rollout, *, parsed: bool, refuse: Sequence[Rollout]
) -> Summary:
    """Whether a summary may stand for its demonstration.

    Args:
        written: the summary, verified as if it were a response.
        question: what the demonstration answers.
        demonstration: what was to be condensed.
        parsed: whether an answer could be read from the summary; then it has to be right or wrong as the
            demonstration is, or the model solved the question anew instead.
        refuse: the analysed rollouts, which nothing shown may be equal to.
    """
    text = written.text.strip()
    reason = None
    if written.truncated:
        reason = "the summary was cut off"
    elif not text:
        reason = "the summary is empty"
    elif is_bare_answer(text, question):
        reason = "the summary is the bare answer"
    elif parsed and written.correct != demonstration.correct:
        reason = "the summary gives another answer than the response it stands for"
    elif text in {rollout.text.strip() for rollout in refuse}:
        reason = "the summary is equal to an analysed response"
    return Summary(text, reason)
