"""Written responses to arithmetic chains, as text to train on.

A step is `+8=55`: the value, written at once. It may be checked the long way, `+8=65?15:55`: first the last digit alone
(7+8=15), then the value with its carry; the value after the check is the one that counts. So a wrong step can be
noticed and repaired, and the check is the surer of the two computations. Values that are written at once may be wrong
on purpose; those are marked as not trained, so that a model learns what to do after an error, not to make it.

Two patterns of writing exist; the verifier reads only the answer line, which they share.
"""

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hydrometer.tasks.chain import Chain, Step, sample_error

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
    check_share: float = 0.5
    """Probability that a step is checked."""
    error_share: float = 0.0
    """Probability that a value is wrong on purpose where it is written at once."""
    guidance: Guidance = "none"
    remark: bool = False
    """Start with `REFERENCE_REMARK`."""


def write_response(chain: Chain, rng: random.Random, writing: Writing) -> list[Segment]:
    """One response, in segments. After an error that is not repaired, the steps go on from the wrong value.

    With guidance `answer` the last step and the answer line give the shown value whatever was written before; with
    guidance `steps` every step does. So a model trained on this text trusts what it is shown.
    """
    segments = [Segment(REFERENCE_REMARK)] if writing.remark else []
    value = chain.start
    last = len(chain.steps) - 1
    for index, (step, shown) in enumerate(zip(chain.steps, chain.values, strict=True)):
        guided = writing.guidance == "steps" or (writing.guidance == "answer" and index == last)
        target = shown if guided else step.apply(value)
        written = sample_error(rng, target) if rng.random() < writing.error_share else target
        segments += [_lead(step, value, writing.pattern), Segment(f"{written:02d}", written == target)]
        if rng.random() < writing.check_share:
            segments.append(_check(step, value, target, writing.pattern))
            written = target
        value = written
        segments.append(Segment("; " if writing.pattern == "prose" and index < last else "\n"))
    segments.append(Segment(f"answer {value if writing.guidance == 'none' else chain.answer:02d}"))
    return segments


def _lead(step: Step, value: int, pattern: Pattern) -> Segment:
    return Segment(f"{step}=" if pattern == "lines" else f"{value:02d}{step} is ")


def _check(step: Step, value: int, target: int, pattern: Pattern) -> Segment:
    """The step once more: the last digit alone (modulo 100, so that a borrow reads 9x), then the value."""
    digit = step.apply(value % 10)
    return Segment(f"?{digit:02d}:{target:02d}" if pattern == "lines" else f" (digit {digit:02d}, so {target:02d})")


def text_of(segments: list[Segment]) -> str:
    """The whole response."""
    return "".join(segment.text for segment in segments)
