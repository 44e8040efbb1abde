"""Everything that decides a probe. Each field is a flag of `hydrometer probe KIND` and a key of its TOML file."""

import re
from typing import Literal, NamedTuple

from pydantic import Field

from hydrometer.errors import SpecError
from hydrometer.runs.options import (
    OptionGroup,
    SamplingOptions,
    ScoringOptions,
    Specs,
    TaskOptions,
    TeacherPromptingOptions,
)

Kind = Literal["prefix", "continuation", "aggregation", "pattern"]
_DEPTH = re.compile(r"^(?:(?P<tokens>\d+)|(?P<percent>\d+(?:\.\d+)?)%)$")


class SubjectOptions(OptionGroup):
    """Who is asked what."""

    student: str = "bundled:student"
    """Model spec of the student: a Hugging Face id or folder, or bundled:NAME."""
    teacher: Specs = ("expert=bundled:expert",)
    """Teachers as [NAME=]MODEL[+CONTEXT]; MODEL may be 'self'. Repeat the flag for more."""
    split: Literal["train", "diagnose", "test"] = "diagnose"
    """Which questions of the task."""
    questions: int = Field(default=100, ge=1)
    """How many of them, the first ones of the split."""
    demos: int = Field(default=8, ge=1)
    """Rollouts of the student per question that contexts are built from, where a context shows some."""


class ProbeConfig(ScoringOptions, TeacherPromptingOptions, SamplingOptions, TaskOptions, SubjectOptions):
    """What all probes share. The groups follow one another from the last to the first."""


class PrefixConfig(ProbeConfig):
    """`hydrometer probe prefix`."""

    greedy: bool = False
    """Everyone takes the most probable token each time, whatever the temperature."""


class ContinuationConfig(ProbeConfig):
    """`hydrometer probe continuation`."""

    depth: Specs = ("0", "8", "16", "24", "25%", "50%", "75%")
    """Where the student's responses are cut: after so many tokens (16), or after a share of the response (25%)."""
    samples: int = Field(default=4, ge=1)
    """Continuations by each model of each cut response."""
    low_density: float = Field(default=1.0, gt=0.0)
    """Nats per token: beyond it a prefix counts as one that the teacher hardly ever writes."""


class AggregationConfig(ProbeConfig):
    """`hydrometer probe aggregation`."""

    teacher: Specs = ("self+answer", "self+solution", "self+correct_demo", "self+rule:Check every step.")
    """Designs of privileged information as [NAME=]MODEL+CONTEXT; MODEL may be 'self'. Repeat the flag for more."""
    rule: Specs = ()
    """Further rule texts: a design rule:TEXT then shows one of them or its own, each as often."""
    samples: int = Field(default=1, ge=1)
    """Responses of the student per question whose tokens are looked at."""


class PatternConfig(ProbeConfig):
    """`hydrometer probe pattern`."""

    samples: int = Field(default=8, ge=1)
    """Responses of each model to each question."""
    k: int = Field(default=16, ge=1)
    """Size of the sets of most probable tokens that are compared."""


CONFIGS: dict[Kind, type[ProbeConfig]] = {
    "prefix": PrefixConfig,
    "continuation": ContinuationConfig,
    "aggregation": AggregationConfig,
    "pattern": PatternConfig,
}
"""By the kind of the probe."""


class Depth(NamedTuple):
    """Where a response is cut."""

    label: str
    """As it was typed."""
    tokens: int | None
    """After so many tokens."""
    share: float | None
    """After this share of the response, below 1."""

    def cut(self, length: int) -> int | None:
        """Tokens that are kept of a response of `length` tokens; None unless at least one token is cut off."""
        kept = self.tokens if self.tokens is not None else int((self.share or 0.0) * length)
        return kept if kept < length else None


def parse_depth(text: str) -> Depth:
    """Read `16` (tokens) or `25%` (of the response).

    Raises:
        SpecError: neither, or all of the response.
    """
    found = _DEPTH.match(text)
    if found is None:
        raise SpecError(f"--depth '{text}': expected a number of tokens (16) or a share of the response (25%).")
    if found["tokens"] is not None:
        return Depth(text, int(found["tokens"]), None)
    share = float(found["percent"]) / 100.0
    if share >= 1.0:
        raise SpecError(f"--depth '{text}' leaves nothing to continue; give a share below 100%.")
    return Depth(text, None, share)
