"""Written responses to arithmetic chains, as text to train on.

A step is `+8=55`, or with a check `+8=55?55 ok` (the value computed a second time and found equal), or with a repair
`+8=65?55 no=55` (found unequal, and computed a third time). Values may be wrong on purpose; those are marked as not
trained, so that a model learns what to do after an error without learning to make it.

Two patterns of writing exist; the verifier reads only the answer line, which they share.
"""

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hydrometer.tasks.chain import Chain, sample_error

Pattern = Literal["lines", "prose"]
Guidance = Literal["none", "answer", "steps"]
"""What the writer is shown: nothing, the final value, or the value of every step."""

REFERENCE_REMARK = "as the reference says\n"
"""First line of some responses to a prompt that shows a reference solution."""


class Segment(NamedTuple):
    """A piece of a response; `trained` is False for a value that is wrong on purpose."""

    text: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Writing:
    """How a response is written."""

    pattern: Pattern = "lines"
    check_share: float = 0.3
    """Probability that a step is checked."""
    first_error_share: float = 0.0
    """Probability that the value of a step is wrong on purpose where it is first written."""
    check_error_share: float = 0.0
    """The same for the value that a check computes."""
    guidance: Guidance = "none"
    remark: bool = False
    """Start with `REFERENCE_REMARK`."""


class _Marks(NamedTuple):
    check: str
    agree: str
    differ: str
    repaired: str
    between: str
    last: str


_MARKS: dict[Pattern, _Marks] = {
    "lines": _Marks("?", " ok", " no=", "", "\n", "\n"),
    "prose": _Marks(" (again ", ", yes)", ", no: ", ")", "; ", "\n"),
}


def write_response(chain: Chain, rng: random.Random, writing: Writing) -> list[Segment]:
    """One response, in segments. After an error that is not repaired, the steps go on from the wrong value.

    With guidance `answer` the last step and the answer line give the shown value whatever was written before; with
    guidance `steps` every step does. So a model trained on this text trusts what it is shown.
    """
    marks = _MARKS[writing.pattern]
    segments = [Segment(REFERENCE_REMARK)] if writing.remark else []
    value = chain.start
    last = len(chain.steps) - 1
    for index, (step, shown) in enumerate(zip(chain.steps, chain.values, strict=True)):
        guided = writing.guidance == "steps" or (writing.guidance == "answer" and index == last)
        target = shown if guided else step.apply(value)
        lead = f"{step}=" if writing.pattern == "lines" else f"{value:02d}{step} is "
        segments.append(Segment(lead))
        written, value = _write_value(target, rng, writing, marks)
        segments += [*written, Segment(marks.last if index == last else marks.between)]
    segments.append(Segment(f"answer {value if writing.guidance == 'none' else chain.answer:02d}"))
    return segments


def _write_value(target: int, rng: random.Random, writing: Writing, marks: _Marks) -> tuple[list[Segment], int]:
    """The value of a step with its check, and the value that the next step starts from."""

    def attempt(error_share: float) -> int:
        return sample_error(rng, target) if rng.random() < error_share else target

    first = attempt(writing.first_error_share)
    segments = [Segment(f"{first:02d}", first == target)]
    if rng.random() >= writing.check_share:
        return segments, first
    second = attempt(writing.check_error_share)
    segments += [Segment(marks.check), Segment(f"{second:02d}", second == target)]
    if first == second:
        return [*segments, Segment(marks.agree)], first
    return [*segments, Segment(f"{marks.differ}{target:02d}{marks.repaired}")], target


def text_of(segments: list[Segment]) -> str:
    """The whole response."""
    return "".join(segment.text for segment in segments)
