from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from letter_subjects import PROMPTS, TOKENS, student_probs, teacher_probs

from hydrometer.models import Warp
from hydrometer.models.causal import LogitsChunk
from hydrometer.objectives import parse
from hydrometer.preflight.inspect import inspect
from hydrometer.preflight.scoring import check_repeat, check_temperature, check_zero_gradient
from hydrometer.preflight.subjects import Subjects, draw_samples
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Message


class Restless(ScriptedModel):
    """Scores as with dropout left on: noise of its own at every call."""

    size = 0.5
    calls = 0

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        for start, logits in super().score(prompt_ids, response_ids):
            yield LogitsChunk(start, logits + self.size * torch.randn(logits.shape, generator=generator))


class Tempered(ScriptedModel):
    """Its scores are already divided by a temperature, as a server's may be."""

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        for start, logits in super().score(prompt_ids, response_ids):
            yield LogitsChunk(start, logits / 0.5)


class OtherQuestion(ScriptedModel):
    """Reads a teacher's prompt otherwise than its own: each rendering has a number in it."""

    rendered = 0

    def render(self, messages: tuple[Message, ...], *, assistant: str = "") -> tuple[int, ...]:
        self.rendered += 1
        return (self.rendered, *super().render(messages, assistant=assistant))


def test_noise_of_the_scorer_is_measured_and_red_when_it_drowns_signals(subjects: Callable[..., Subjects]):
    plain = subjects()
    samples = draw_samples(plain, plain.student, plain.sampler)
    assert check_repeat("student", plain.student, samples, dtype="float32").noise_nats == 0.0
    restless = Restless(TOKENS, teacher_probs, name="restless")
    repeat = check_repeat("teacher", restless, samples, dtype="float32")
    assert repeat.finding.level == "red"
    restless.size = 0.003
    quiet = check_repeat("teacher", restless, samples, dtype="float32")
    assert quiet.finding.level == "note"
    assert 0.001 < quiet.noise_nats < 0.05


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_both_sides_are_tempered_alike(subjects: Callable[..., Subjects], temperature: float):
    plain = subjects(warp=Warp(temperature))
    samples = draw_samples(plain, plain.student, plain.sampler)
    found = check_temperature(plain, "teacher", plain.teachers["teacher"], samples)
    assert (found.level, f"temperature {temperature:g}" in found.found) == ("green", True)


def test_a_teacher_that_is_tempered_twice_shows_where_it_is_the_student(subjects: Callable[..., Subjects]):
    twice = subjects(Tempered(TOKENS, student_probs, name="student"), {})
    levels = {f.check: f.level for f in inspect(twice).findings}
    assert levels["sampler against scorer"] == "red"


def test_a_model_is_silent_as_its_own_teacher_unless_its_prompt_differs(subjects: Callable[..., Subjects]):
    plain = subjects()
    samples = draw_samples(plain, plain.student, plain.sampler)
    found = check_zero_gradient(plain, "student", plain.student, samples, noise_nats=0.0)
    assert (found.level, "3 objectives are silent" in found.found) == ("green", True)
    odd = OtherQuestion(TOKENS, student_probs, name="odd")
    loud = check_zero_gradient(plain, "teacher", odd, samples, noise_nats=0.0)
    assert loud.level == "red"
    assert "with itself as its teacher, and so do 2 other objectives" in loud.found


def test_a_nucleus_of_the_student_is_no_gradient(subjects: Callable[..., Subjects]):
    cut = subjects(warp=Warp(1.0, 0.8))
    assert {f.level for f in inspect(cut).findings} == {"green", "note"}


def test_the_unnormalised_form_is_named_and_not_red(subjects: Callable[..., Subjects]):
    plain = subjects()
    biased = Subjects(
        plain.student,
        plain.sampler,
        plain.teachers,
        PROMPTS,
        (parse("reverse_kl"), parse("topk_reverse_kl:k=2,form=unnormalised")),
        Warp(),
        probe_tokens=40,
    )
    samples = draw_samples(biased, biased.student, biased.sampler)
    found = check_zero_gradient(biased, "student", biased.student, samples, noise_nats=0.0)
    assert found.level == "note"
    assert "topk_reverse_kl:k=2,form=unnormalised is not, by its definition" in found.found
