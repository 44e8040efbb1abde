"""What a teacher sees besides the prefix: one frame per context, filled with content of the question.

A context turns the student's messages into the teacher's messages; the teacher's own chat template renders them. The
response tokens that follow are the student's, unchanged. Frames use plain `$name` substitution (`string.Template`), so
nothing in a question's text can reach an attribute or be expanded twice.

`empty:CONTEXT` is a control: the same frame with every content slot replaced by filler of the same number of tokens.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.types import Message, Question, Rollout


@dataclass(frozen=True, slots=True)
class Frame:
    """The words around the content of one context."""

    user: str = "$prompt"
    """Replaces the last user message; `$prompt` is what the student saw there."""
    system: str | None = None
    """Put first as a system message (joined to one that is there already)."""
    assistant: str = ""
    """Text that opens the assistant's turn (hidden thoughts)."""
    slots: tuple[str, ...] = ()
    """Names of the content slots; `empty:` blanks exactly these."""


FRAMES: dict[str, Frame] = {
    "none": Frame(),
    "answer": Frame(
        user="$prompt\n\nThe correct answer is $answer. Work through the problem and arrive at it.", slots=("answer",)
    ),
    "wrong_answer": Frame(
        user="$prompt\n\nThe correct answer is $wrong_answer. Work through the problem and arrive at it.",
        slots=("wrong_answer",),
    ),
    "solution": Frame(
        user="$prompt\n\nHere is a reference solution:\n$solution\n\nUnderstand it, then solve the problem yourself.",
        slots=("solution",),
    ),
    "masked_solution": Frame(
        user="$prompt\n\nHere is a reference solution with parts hidden:\n$solution\n\n"
        "Understand it, then solve the problem yourself.",
        slots=("solution",),
    ),
    "correct_demo": Frame(
        user="$prompt\n\nHere is a correct response:\n$correct\n\nNow give your own response.", slots=("correct",)
    ),
    "correct_wrong_demo": Frame(
        user="$prompt\n\nHere is a correct response:\n$correct\n\n"
        "Here is a wrong response, do not imitate it:\n$wrong\n\nNow give your own response.",
        slots=("correct", "wrong"),
    ),
    "peer_demo": Frame(
        user="$prompt\n\nHere is a correct response by another model:\n$correct\n\nNow give your own response.",
        slots=("correct",),
    ),
    "summary": Frame(
        user="$prompt\n\nHere are the key steps of a correct response:\n$correct\n\nNow give your own response.",
        slots=("correct",),
    ),
    "correct_wrong_summary": Frame(
        user="$prompt\n\nHere are the key steps of a correct response:\n$correct\n\n"
        "Here are the key steps of a wrong response, do not imitate it:\n$wrong\n\nNow give your own response.",
        slots=("correct", "wrong"),
    ),
    "conciseness": Frame(user="$prompt\n\nBe as brief as you can."),
    "hidden_think": Frame(assistant="<think>\nThe answer is $answer.\n</think>\n", slots=("answer",)),
    "rule": Frame(system="$rule", slots=("rule",)),
}
"""Every context of the contract; the bundled family was trained on these very frames."""

AVAILABLE = ("none", "answer", "wrong_answer", "solution", "correct_demo", "correct_wrong_demo", "rule")
"""Contexts whose content can be built today (the other frames exist so that the bundled family knows them)."""


class ContextSpec(NamedTuple):
    """A parsed context: its frame, the text after `rule:`, and whether its content is blanked."""

    name: str
    argument: str = ""
    empty: bool = False

    def __str__(self) -> str:
        text = f"{self.name}:{self.argument}" if self.argument else self.name
        return f"empty:{text}" if self.empty else text


class TeacherPrompt(NamedTuple):
    """What one teacher is shown for one question; `reason` says why where it has to be skipped."""

    messages: tuple[Message, ...]
    assistant: str = ""
    demo_rollout_ids: tuple[int, ...] = ()
    reason: str | None = None


def parse_context(text: str) -> ContextSpec:
    """Read `NAME`, `rule:TEXT` (or `rule:@FILE`) or `empty:CONTEXT`.

    Raises:
        UnknownNameError: no such context.
        SpecError: a rule without text, text where none belongs, or a file that cannot be read.
    """
    head, _, rest = text.partition(":")
    if head == "empty":
        if not rest:
            raise SpecError(f"'{text}': name the context whose content is blanked, e.g. empty:answer.")
        inner = parse_context(rest)
        if inner.empty or not FRAMES[inner.name].slots:
            raise SpecError(f"'{text}': there is no content to blank in '{inner}'. Use e.g. empty:answer.")
        return inner._replace(empty=True)
    if head not in AVAILABLE:
        raise UnknownNameError("context", head, [*AVAILABLE, *(f"empty:{n}" for n in AVAILABLE if FRAMES[n].slots)])
    if head != "rule":
        if rest:
            raise SpecError(f"Context '{head}' takes no text, but '{text}' gives it '{rest}'.")
        return ContextSpec(head)
    if rest.startswith("@"):
        try:
            rest = Path(os.path.expanduser(rest[1:])).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"'{text}': the rule file cannot be read ({error}).") from error
    if not rest.strip():
        raise SpecError(f"'{text}': a rule needs its text, e.g. rule:Check every step.  or rule:@FILE")
    return ContextSpec("rule", rest)


def build_teacher_prompt(
    context: ContextSpec,
    question: Question,
    *,
    demos: Sequence[Rollout] = (),
    refuse: Sequence[Rollout] = (),
    blank: Callable[[str], str],
) -> TeacherPrompt:
    """The teacher's messages for one question.

    Args:
        context: what to show.
        question: the student's messages and the reference material.
        demos: `demo` rollouts of this question; the first correct (and wrong) ones that say anything and were not cut
            off become the demonstrations.
        refuse: the analysed rollouts; a demonstration with the text of one of them is never used.
        blank: replaces a content by filler of the same number of tokens (for `empty:`).
    """
    refused = {"", *(rollout.text.strip() for rollout in refuse)}
    usable = [rollout for rollout in demos if rollout.text.strip() not in refused and not rollout.truncated]
    correct = next((rollout for rollout in usable if rollout.correct), None)
    wrong = next((rollout for rollout in usable if not rollout.correct), None)
    content = {
        "answer": question.answer,
        "wrong_answer": question.wrong_answer,
        "solution": question.solution,
        "correct": correct and correct.text.strip(),
        "wrong": wrong and wrong.text.strip(),
        "rule": context.argument,
    }
    frame = FRAMES[context.name]
    for slot in frame.slots:
        if not content[slot]:
            return TeacherPrompt((), reason=_MISSING[slot])
    values = {slot: str(content[slot]) for slot in frame.slots}
    if context.empty:
        values = {slot: blank(text) for slot, text in values.items()}
    used = tuple(r.rollout_id for slot, r in (("correct", correct), ("wrong", wrong)) if r and slot in frame.slots)
    return TeacherPrompt(
        apply_frame(frame, question.prompt, values), Template(frame.assistant).substitute(values), used
    )


_MISSING = {
    "answer": "the question has no answer",
    "wrong_answer": "the question has no wrong answer",
    "solution": "the question has no reference solution",
    "correct": "no correct demonstration rollout that differs from the analysed ones",
    "wrong": "no wrong demonstration rollout that differs from the analysed ones",
    "rule": "no rule text",
}


def apply_frame(frame: Frame, prompt: tuple[Message, ...], values: dict[str, str]) -> tuple[Message, ...]:
    """The messages of `prompt` inside a frame whose content slots are filled with `values`."""
    messages = list(prompt)
    if frame.user != "$prompt":
        last = max(index for index, message in enumerate(messages) if message.role == "user")
        text = Template(frame.user).substitute(values, prompt=messages[last].content)
        messages[last] = Message("user", text)
    if frame.system is not None:
        system = Template(frame.system).substitute(values)
        if messages and messages[0].role == "system":
            messages[0] = Message("system", f"{messages[0].content}\n\n{system}")
        else:
            messages.insert(0, Message("system", system))
    return tuple(messages)
