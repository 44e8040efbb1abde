"""All checks in order: what needs no sample first, then a few short samples and what they show."""

from hydrometer.models import CausalModel
from hydrometer.preflight.engines import check_engine, is_capped
from hydrometer.preflight.findings import Finding, Preflight
from hydrometer.preflight.preference import check_preference
from hydrometer.preflight.sampler import (
    check_batches,
    check_sampled_ends,
    check_sampler_draws,
    check_sampler_logprobs,
)
from hydrometer.preflight.scoring import (
    check_dtype,
    check_repeat,
    check_stock_sampling,
    check_temperature,
    check_zero_gradient,
)
from hydrometer.preflight.shift import check_shift
from hydrometer.preflight.subjects import Sample, Subjects, draw_samples
from hydrometer.preflight.templates import check_boundary, check_template
from hydrometer.preflight.tokens import check_ends, check_round_trip, check_token_map
from hydrometer.preflight.warps import read_samples
from hydrometer.types import STUDENT


def inspect(subjects: Subjects) -> Preflight:
    """Run every check.

    A teacher whose token ids mean other strings is not scored: no other check could say anything about it. The shared
    vocabulary is set on all other models, as a run does.

    Raises:
        UserError: a model without a chat template, or one that its prompts cannot be put to.
    """
    findings = [check_token_map(subjects.student, name, teacher) for name, teacher in subjects.teachers.items()]
    foreign = {finding.model for finding in findings if finding.level == "red"}
    known = {name: model for name, model in subjects.models.items() if name not in foreign}
    scorers = {name: model for name, model in known.items() if not is_capped(model)}
    shared = min(model.vocab_size for model in known.values())
    for model in known.values():
        model.vocab_size = shared
    messages = subjects.prompts[0]
    for name, model in subjects.models.items():
        findings += check_template(name, model, messages)
        findings += check_ends(subjects.student, name, model)
        findings += check_stock_sampling(name, model)
        findings += check_engine(subjects, name, model)
    samples = draw_samples(subjects, subjects.student, subjects.sampler)
    findings += _check_sampler(subjects, samples)
    for name, model in scorers.items():
        findings += _check_model(subjects, name, model, samples)
    tokens = sum(len(sample.drawn.token_ids) for sample in samples)
    return Preflight(tuple(findings), len(samples), tokens)


def _check_sampler(subjects: Subjects, samples: list[Sample]) -> list[Finding]:
    findings = [check_sampled_ends(subjects, samples)]
    if not is_capped(subjects.student):
        reading = read_samples(subjects.student, samples, subjects.warp)
        findings += [check_sampler_logprobs(subjects, samples, reading), check_sampler_draws(samples, reading)]
    return [*findings, check_batches(subjects, samples), check_dtype(subjects)]


def _check_model(subjects: Subjects, name: str, model: CausalModel, samples: list[Sample]) -> list[Finding]:
    repeat = check_repeat(name, model, samples, dtype=subjects.dtype)
    findings = [
        *check_boundary(name, model, samples),
        *check_round_trip(name, model, samples),
        repeat.finding,
        check_shift(name, model, samples, noise_nats=repeat.noise_nats),
        check_zero_gradient(subjects, name, model, samples, noise_nats=repeat.noise_nats),
    ]
    if name != STUDENT and not is_capped(subjects.student):
        findings.append(check_temperature(subjects, name, model, samples))
        findings += check_preference(subjects, name, model, samples)
    return findings
