"""What the checks are made of: models, a few prompts, and a few short responses drawn with the run's own sampler."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hydrometer.models import CausalModel, Warp
from hydrometer.objectives import Objective
from hydrometer.sampling import Continuation, Sampler, SampleRequest, rollout_seed
from hydrometer.types import STUDENT, Message

Dtype = Literal["float32", "bfloat16", "float16"]
_PROMPTS = 4
_SAMPLES = 16
_SMALL_MODEL = 50_000_000
"""Parameters below which longer probes cost next to nothing."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Everything that is checked."""

    student: CausalModel
    sampler: Sampler
    """The one that will draw the rollouts."""
    teachers: Mapping[str, CausalModel]
    """By name; a model that stands under several names stands here once, the student not at all."""
    prompts: tuple[tuple[Message, ...], ...]
    """What the student will be asked."""
    objectives: tuple[Objective, ...]
    """Those whose direction is checked; they need a teacher's distribution."""
    warp: Warp
    """How the sampler is told to sample."""
    dtype: Dtype = "float32"
    seed: int = 0
    probe_tokens: int | None = None
    """Length limit of the probe samples (default: from the student's size)."""

    @property
    def models(self) -> dict[str, CausalModel]:
        """The student and every teacher, by name."""
        return {STUDENT: self.student, **self.teachers}

    @property
    def drawn_tokens(self) -> int:
        """Length limit of the probe samples."""
        return self.probe_tokens or default_probe_tokens(self.student)


def default_probe_tokens(student: CausalModel) -> int:
    """Enough to see responses end where that costs next to nothing, and as few as show a fault where it does."""
    return 96 if student.parameters < _SMALL_MODEL else 32


class Sample(NamedTuple):
    """One probe response."""

    messages: tuple[Message, ...]
    request: SampleRequest
    drawn: Continuation


def draw_samples(subjects: Subjects, model: CausalModel, sampler: Sampler) -> list[Sample]:
    """A few short responses to each probe prompt, all in one call."""
    asked = [
        (
            messages,
            SampleRequest(
                model.render(messages),
                (),
                rollout_seed(subjects.seed, f"check\x1f{number}", copy),
                subjects.drawn_tokens,
            ),
        )
        for number, messages in enumerate(subjects.prompts[:_PROMPTS])
        for copy in range(_SAMPLES // min(_PROMPTS, len(subjects.prompts)))
    ]
    drawn = sampler.sample([request for _, request in asked])
    return [
        Sample(messages, request, continuation) for (messages, request), continuation in zip(asked, drawn, strict=True)
    ]


def longest(samples: list[Sample], *, most_tokens: int) -> Sample:
    """The sample with most tokens, cut to `most_tokens`: where a check needs one text."""
    best = max(samples, key=lambda sample: len(sample.drawn.token_ids))
    ids, logprobs, _ = best.drawn
    if len(ids) <= most_tokens:
        return best
    return best._replace(drawn=Continuation(ids[:most_tokens], logprobs[:most_tokens], ended=False))


def read_logprobs(
    model: CausalModel, prompt_ids: tuple[int, ...], response_ids: tuple[int, ...]
) -> Float[Tensor, "token vocab"]:
    """Log-probabilities before every response token, float64, on the CPU; for short responses only."""
    rows = [chunk.logits.double().log_softmax(-1).cpu() for chunk in model.score(prompt_ids, response_ids)]
    return torch.cat(rows)
