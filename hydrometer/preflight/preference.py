"""Swapped chat templates: a model that finds the other side's responses likelier under the other side's template.

A response is scored by one model at two prompts that hold the same messages: its own rendering, and the rendering of
whoever wrote the response. The tokens are the same, so what the model thinks of their wording cancels, and the mean
difference in nats per token says which rendering it knows.
"""

from typing import NamedTuple

import numpy as np

from hydrometer.models import CausalModel, Conventional
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Sample, Subjects, draw_samples, read_logprobs
from hydrometer.sampling import SamplingSettings, build_sampler

_LARGE_NATS = 0.25
_ERRORS = 4.0


class _Preference(NamedTuple):
    """How much likelier a model finds responses under another template than under its own."""

    own: float
    other: float
    """Mean log-probabilities, nats per token."""
    standard_error: float

    @property
    def is_clear(self) -> bool:
        gap = self.other - self.own
        return gap > _LARGE_NATS and gap > _ERRORS * self.standard_error


def check_preference(subjects: Subjects, name: str, teacher: CausalModel, samples: list[Sample]) -> list[Finding]:
    """Where student and teacher are rendered differently: does each know its own rendering better?"""
    student = subjects.student
    if not isinstance(student, Conventional) or not isinstance(teacher, Conventional):
        return []
    check = "template preference"
    messages = samples[0].messages
    if student.prompt_text(messages) == teacher.prompt_text(messages):
        return [Finding("green", check, name, "student and teacher render the prompt alike")]
    sampler = build_sampler(teacher, SamplingSettings(subjects.drawn_tokens, subjects.warp))
    written = draw_samples(subjects, teacher, sampler)
    by_teacher = _compare(teacher, student, samples)
    by_student = _compare(student, teacher, written)
    suspects = [
        f"{reader} finds the {writer}'s responses likelier under the {writer}'s template than under its own "
        f"({found.other:.2f} against {found.own:.2f} nats a token)"
        for reader, writer, found in (("the teacher", "student", by_teacher), ("the student", "teacher", by_student))
        if found.is_clear
    ]
    if suspects:
        return [
            Finding(
                "red",
                check,
                name,
                "; ".join(suspects),
                "One of the two templates is not the one its model was trained with: it would be scored at prompts "
                "that it does not know.",
                "Give each model its own chat template.",
            )
        ]
    return [
        Finding(
            "note",
            check,
            name,
            f"student and teacher render prompts differently (the teacher gives the student's responses "
            f"{by_teacher.own:.2f} nats a token under its own template, {by_teacher.other:.2f} under the student's)",
            "Each sees its own template, as it should be.",
        )
    ]


def _compare(reader: CausalModel, writer: CausalModel, samples: list[Sample]) -> _Preference:
    assert isinstance(reader, Conventional)
    own, other = [], []
    for sample in samples:
        ids = tuple(i for i in sample.drawn.token_ids if i < reader.vocab_size and i not in writer.eos_ids)
        if not ids:
            continue
        own.append(_mean_logprob(reader, reader.render(sample.messages), ids))
        other.append(_mean_logprob(reader, reader.encode(writer.prompt_text(sample.messages)), ids))
    gaps = np.subtract(other, own)
    spread = float(gaps.std(ddof=1)) / len(gaps) ** 0.5 if len(gaps) > 1 else float("inf")
    return _Preference(float(np.mean(own or [0.0])), float(np.mean(other or [0.0])), spread)


def _mean_logprob(model: CausalModel, prompt_ids: tuple[int, ...], ids: tuple[int, ...]) -> float:
    logprobs = read_logprobs(model, prompt_ids, ids)
    return float(logprobs[range(len(ids)), ids].mean())
