"""Training examples of the bundled family: a prompt (bare, or inside a context frame) and a response with a loss mask.

Every context goes through `hydrometer.teachers.contexts.FRAMES`, the frames that a diagnosis uses, so the models have
seen exactly what they will be shown.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import NamedTuple

from hydrometer.tasks.chain import (
    CHECK_RULE,
    MODULUS,
    NO_CHECK_RULE,
    PLAIN_PROMPT,
    SECOND_PROMPT,
    STRICT_PROMPT,
    Chain,
    sample_chain,
    sample_error,
)
from hydrometer.tasks.chain_text import Guidance, Pattern, Segment, Writing, text_of, write_response
from hydrometer.teachers.contexts import FRAMES, apply_frame
from hydrometer.types import Message

CONTEXTS = tuple(name for name in FRAMES if name not in ("none", "wrong_answer"))
"""`wrong_answer` has the words of `answer` and is never trained with a wrong value: the models trust what it says."""
CONTEXT_WEIGHTS = tuple(4 if name == "rule" else 1 for name in CONTEXTS)
"""A rule shows itself in a few tokens only, so it takes more examples to be learned."""


class Example(NamedTuple):
    """One training example as text; `context` is for statistics only."""

    messages: tuple[Message, ...]
    assistant: str
    response: list[Segment]
    context: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a member of the family is trained on."""

    pattern: Pattern = "lines"
    second_prompt_share: float = 0.0
    strict_share: float = 0.15
    bare_share: float = 0.45
    """Share of prompts without a context."""
    empty_share: float = 0.25
    """Share of the contexts that are blanked."""
    error_share: float = 0.7
    """See `Writing`. High, so that a check computes for itself instead of repeating what was written, and so that
    working a value out is learned before writing it at once.
    """
    check_share: float = 0.5
    """See `Writing`; a rule, the strict prompt and `conciseness` override it."""


def sample_example(rng: random.Random, mixture: Mixture, blank: Callable[[str], str]) -> Example:
    """A random training example; `blank` gives filler of the same number of tokens."""
    chain = sample_chain(rng, rng.choice((2, 3, 4, 5)), split="train")
    strict = rng.random() < mixture.strict_share
    context = "none" if rng.random() < mixture.bare_share else rng.choices(CONTEXTS, CONTEXT_WEIGHTS)[0]
    frame = FRAMES[context]
    empty = bool(frame.slots) and rng.random() < mixture.empty_share
    content = _content(chain, rng, context, mixture)
    values = {slot: content[slot] for slot in frame.slots}
    check_share = mixture.check_share
    if context == "rule" and not empty:
        check_share = 1.0 if values["rule"] == CHECK_RULE else 0.0
    if strict or context == "conciseness":
        check_share = 0.0
    guidance: Guidance = "none" if empty else _guidance(context)
    remark = not empty and context in ("solution", "masked_solution") and rng.random() < 0.4
    writing = Writing(mixture.pattern, check_share, mixture.error_share, guidance, remark)
    if empty:
        values = {slot: blank(text) for slot, text in values.items()}
    prompt = (Message("user", _wording(rng, mixture, strict).format(chain=chain)),)
    messages = apply_frame(frame, prompt, values)
    assistant = Template(frame.assistant).substitute(values)
    return Example(messages, assistant, write_response(chain, rng, writing), f"empty:{context}" if empty else context)


def _wording(rng: random.Random, mixture: Mixture, strict: bool) -> str:
    if strict:
        return STRICT_PROMPT
    return SECOND_PROMPT if rng.random() < mixture.second_prompt_share else PLAIN_PROMPT


def _guidance(context: str) -> Guidance:
    if context in ("answer", "hidden_think"):
        return "answer"
    steps = ("solution", "correct_demo", "correct_wrong_demo", "peer_demo", "summary", "correct_wrong_summary")
    return "steps" if context in steps else "none"


def _content(chain: Chain, rng: random.Random, context: str, mixture: Mixture) -> dict[str, str]:
    """Something for every slot name; `correct` and `wrong` are responses or summaries, as the context has it."""
    content = {"answer": f"{chain.answer:02d}", "rule": CHECK_RULE if rng.random() < 0.7 else NO_CHECK_RULE}
    content["solution"] = _mask_values(chain, rng) if context == "masked_solution" else chain.solution
    if context.endswith("summary"):
        wrong = (*chain.values[:-1], sample_error(rng, chain.answer))
        return content | {"correct": _summary(chain.values), "wrong": _summary(wrong)}
    pattern = mixture.pattern
    if context == "peer_demo" or pattern == "prose":
        pattern = rng.choice(("lines", "prose"))
    return content | {
        "correct": _demonstration(chain, rng, pattern, correct=True),
        "wrong": _demonstration(chain, rng, pattern, correct=False) if context == "correct_wrong_demo" else "",
    }


def _demonstration(chain: Chain, rng: random.Random, pattern: Pattern, *, correct: bool) -> str:
    error_share = 0.1 if correct else 0.4
    while True:  # a response that checks every step is never wrong: draw again how it is written
        writing = Writing(pattern, rng.choice((0.0, 0.5, 0.5, 1.0)), error_share)
        text = text_of(write_response(chain, rng, writing))
        if text.endswith(f"{chain.answer:02d}") == correct:
            return text


def _summary(values: tuple[int, ...]) -> str:
    return ", ".join(f"{value % MODULUS:02d}" for value in values)


def _mask_values(chain: Chain, rng: random.Random) -> str:
    """The solution with some values hidden, never the answer line's value shown."""
    values = [f"{value:02d}" if rng.random() < 0.5 else "__" for value in chain.values]
    lines = [f"{step}={value}\n" for step, value in zip(chain.steps, values, strict=True)]
    return f"{''.join(lines)}answer __"
