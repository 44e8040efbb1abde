"""Teacher contexts: their names, and one frame of words for each. `prompts` fills the frames.

A context turns the student's messages into the teacher's messages; the teacher's own chat template renders them. The
response tokens that follow are the student's, unchanged. Frames use plain `$name` substitution (`string.Template`), so
nothing in a question's text can reach an attribute or be expanded twice.

`empty:CONTEXT` is a control: the same frame with every content slot replaced by filler of the same number of tokens.
`aggregate:CONTEXT` is what a student can learn of a teacher that sees CONTEXT: the normalised geometric mean of what it
says under every content that the student cannot tell apart (`instances`; arXiv:2605.11182 eqs 10-11).
"""

from dataclasses import dataclass
from string import Template
from typing import NamedTuple

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.inputs import read_plain_text
from hydrometer.types import Message


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

SUMMARISED = frozenset({"summary", "correct_wrong_summary"})
"""Contexts whose demonstrations are condensed by a model first."""
PEER = "peer_demo"
"""The context whose demonstrations are another model's rollouts."""
_WITH_ARGUMENT = {"rule": "rule:TEXT", PEER: "peer_demo:MODEL"}


AGGREGATED = frozenset({"answer", "solution", "masked_solution", "hidden_think", "correct_demo", "correct_wrong_demo"})
"""Contexts of one question whose other contents can be had from what the student writes."""


class ContextSpec(NamedTuple):
    """A parsed context: its frame, what follows `rule:` or `peer_demo:`, and what is done with its content."""

    name: str
    argument: str = ""
    empty: bool = False
    """Whether it is blanked."""
    aggregate: bool = False
    """Whether the teacher is the mean over the contents that the student cannot tell apart."""

    @property
    def is_of_one_question(self) -> bool:
        """Whether its content is about the question at hand, which a student will never be told."""
        return not (self.empty or self.aggregate) and any(slot != "rule" for slot in FRAMES[self.name].slots)

    def __str__(self) -> str:
        text = f"{self.name}:{self.argument}" if self.argument else self.name
        if self.aggregate:
            return f"aggregate:{text}"
        return f"empty:{text}" if self.empty else text


def parse_context(text: str) -> ContextSpec:
    """Read `NAME`, `rule:TEXT` (or `rule:@FILE`), `peer_demo[:MODEL]`, `empty:CONTEXT` or `aggregate:CONTEXT`.

    Raises:
        UnknownNameError: no such context.
        SpecError: a rule without text, text where none belongs, or a file that cannot be read.
    """
    head, _, rest = text.partition(":")
    if head == "empty":
        if not rest:
            raise SpecError(f"'{text}': name the context whose content is blanked, e.g. empty:answer.")
        inner = parse_context(rest)
        if inner.empty or inner.aggregate or not FRAMES[inner.name].slots:
            raise SpecError(f"'{text}': there is no content to blank in '{inner}'. Use e.g. empty:answer.")
        return inner._replace(empty=True)
    if head == "aggregate":
        if rest not in AGGREGATED:
            raise SpecError(
                f"'{text}': an aggregate is of a context that differs between questions and that the student's own "
                f"rollouts can stand in for: {', '.join(sorted(AGGREGATED))}."
            )
        return ContextSpec(rest, aggregate=True)
    if head not in FRAMES:
        blanked = (f"empty:{name}" for name in FRAMES if FRAMES[name].slots)
        mixed = (f"aggregate:{name}" for name in FRAMES if name in AGGREGATED)
        raise UnknownNameError("context", head, [*FRAMES, *blanked, *mixed])
    if head == PEER:
        return ContextSpec(PEER, rest)
    if head != "rule":
        if rest:
            known = " and ".join(_WITH_ARGUMENT.values())
            raise SpecError(f"Context '{head}' takes no text, but '{text}' gives it '{rest}'. Only {known} do.")
        return ContextSpec(head)
    if rest.startswith("@"):
        try:
            rest = read_plain_text(rest[1:]).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"'{text}': the rule file cannot be read ({error}).") from error
    if not rest.strip():
        raise SpecError(f"'{text}': a rule needs its text, e.g. rule:Check every step.  or rule:@FILE")
    return ContextSpec("rule", rest)


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
