"""Is scoring repeatable, at one temperature on both sides, and silent where teacher and student are one model?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from hydrometer.models import CausalModel, Conventional, Warp
from hydrometer.objectives import Objective
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Dtype, Sample, Subjects, longest, read_logprobs
from hydrometer.teachers import TeacherView, build_teacher_prompt, parse_context, score_paths
from hydrometer.types import Question

_TEXT_TOKENS = 12
_ROUNDING_NATS = 1e-4
_DISTURBING_NATS = {"float32": 0.1, "float16": 0.2, "bfloat16": 1.0}
"""A repeated score that differs by more is more than rounding, and as large as the effects that are measured."""
_TEMPERATURE_NATS = 0.01
_NO_DIRECTION = 1e-6
"""Norm below which the diagnosis calls a direction absent."""


class Repeat(NamedTuple):
    """What scoring one text several times showed."""

    finding: Finding
    noise_nats: float
    """Largest difference of a likely token's log-probability between two scores of the same text."""


def check_repeat(name: str, model: CausalModel, samples: list[Sample], *, dtype: Dtype) -> Repeat:
    """The same text scored twice, and scored again cut short: the same log-probabilities."""
    check = "repeatability"
    sample = longest(samples, most_tokens=_TEXT_TOKENS)
    prompt, ids = sample.request.prompt_ids, sample.drawn.token_ids
    if not ids:
        return Repeat(Finding("note", check, name, "no probe response has a token to score"), 0.0)
    first = read_logprobs(model, prompt, ids)
    again = read_logprobs(model, prompt, ids)
    cut = read_logprobs(model, prompt, ids[: (len(ids) + 1) // 2])
    likely = first > np.log(1e-4)
    twice = _largest(first - again, likely)
    shortened = _largest(first[: len(cut)] - cut, likely[: len(cut)])
    found = f"the same text scored twice differs by at most {twice:.2g} nats, scored cut short by {shortened:.2g}"
    if max(twice, shortened) > _DISTURBING_NATS[dtype]:
        finding = Finding(
            "red",
            check,
            name,
            found,
            "That is as large as the signals that are measured.",
            "Switch off dropout and whatever else is random, score with one replica, and make no row depend on tokens "
            "behind it.",
        )
    elif max(twice, shortened) > _ROUNDING_NATS:
        finding = Finding(
            "note", check, name, found, "Signals of that size are rounding.", "Use --dtype float32 where it fits."
        )
    else:
        finding = Finding("green", check, name, found)
    return Repeat(finding, twice)


def check_temperature(subjects: Subjects, name: str, model: CausalModel, samples: list[Sample]) -> Finding:
    """Student and teacher probabilities of the scoring path against logits / temperature, worked out apart."""
    check, temperature = "temperature", subjects.warp.temperature
    sample = longest(samples, most_tokens=_TEXT_TOKENS)
    prompt, ids = sample.request.prompt_ids, sample.drawn.token_ids
    if not ids:
        return Finding("note", check, name, "no probe response has a token to score")
    views = [TeacherView(name, model, prompt)]
    [scores] = score_paths(
        subjects.student, prompt, views, [ids], (), warp=subjects.warp._replace(top_p=1.0), threshold=0.02
    )
    expected = [
        (read_logprobs(side, prompt, ids) / temperature).log_softmax(-1).numpy()[scores.position, scores.token_id]
        for side in (subjects.student, model)
    ]
    gaps = [np.abs(scores.student_logprob - expected[0]), np.abs(scores.teacher_logprob[0] - expected[1])]
    likely = [values > np.log(1e-4) for values in expected]
    most = max((float(gap[keep].max()) for gap, keep in zip(gaps, likely, strict=True) if keep.any()), default=0.0)
    if most > _TEMPERATURE_NATS:
        return Finding(
            "red",
            check,
            name,
            f"log-probabilities are {most:.2g} nats away from those at temperature {temperature:g}",
            "Student and teacher would be compared at different temperatures.",
            "Divide the logits of both sides by the sampling temperature.",
        )
    found = f"student and teacher are both scored at temperature {temperature:g} (within {most:.1g} nats)"
    return Finding("green", check, name, found)


def check_zero_gradient(
    subjects: Subjects, name: str, model: CausalModel, samples: list[Sample], *, noise_nats: float
) -> Finding:
    """Each objective's direction between a model and itself as its own teacher, on the path that a diagnosis takes."""
    check = "zero gradient"
    sample = longest(samples, most_tokens=_TEXT_TOKENS)
    ids = sample.drawn.token_ids
    if not ids:
        return Finding("note", check, name, "no probe response has a token to score")
    prompt = model.render(sample.messages)
    as_teacher = build_teacher_prompt(parse_context("none"), _question(sample), blank=str)
    view = TeacherView(name, model, model.render(as_teacher.messages, assistant=as_teacher.assistant))
    norms = _norms(model, prompt, view, ids, subjects.objectives, subjects.warp)
    silent = {o.name: norms[o.name] for o in subjects.objectives if o.zero_at_equality}
    biased = [o.name for o in subjects.objectives if not o.zero_at_equality]
    limit = max(_NO_DIRECTION, 4.0 * noise_nats)
    loud = {objective: norm for objective, norm in silent.items() if not norm <= limit}
    if loud:
        worst = max(loud, key=loud.__getitem__)
        return Finding(
            "red",
            check,
            name,
            f"{worst} moves the model by {loud[worst]:.2g} with itself as its teacher"
            f"{_also(len(loud) - 1)}, beyond {limit:.2g}",
            "A gradient that has nothing to do with the teacher is added to every score.",
            "Score student and teacher at the same prompt, positions, temperature and vocabulary.",
        )
    found = f"{len(silent)} objectives are silent with the model as its own teacher (at most {_most(silent):.1g})"
    if not biased:
        return Finding("green", check, name, found)
    return Finding(
        "note",
        check,
        name,
        f"{found}; {', '.join(biased)} is not, by its definition",
        "The unnormalised top-k loss pushes probability out of its support even where student and teacher agree.",
        "Use form=stop_gradient, renormalised or tail_bin.",
    )


def check_stock_sampling(name: str, model: CausalModel) -> list[Finding]:
    """Options of a generation config that would change p wherever they are honoured."""
    if not isinstance(model, Conventional):
        return []
    options = model.conventions().stock_sampling
    if not options:
        return [Finding("green", "generation config", name, "holds no option that changes the sampled distribution")]
    listed = ", ".join(f"{option}={value}" for option, value in options.items())
    return [
        Finding(
            "note",
            "generation config",
            name,
            f"sets {listed}; Hydrometer's sampler ignores these",
            "Software that honours them draws from another distribution than p, and its rollouts are off-policy.",
            "Switch them off wherever you train and evaluate, or set the same for scoring.",
        )
    ]


def check_dtype(subjects: Subjects) -> Finding:
    """Rounding of the weights and passes."""
    if subjects.dtype == "float32":
        return Finding("green", "dtype", "student", "float32")
    return Finding(
        "note",
        "dtype",
        "student",
        f"{subjects.dtype} weights and passes; see `sampler against scorer` for what it costs here",
        "Gaps between the sampling and the scoring pass are of the size of small effects.",
        "Use --dtype float32 where it fits.",
    )


def _norms(
    model: CausalModel,
    prompt: tuple[int, ...],
    view: TeacherView,
    ids: tuple[int, ...],
    objectives: Sequence[Objective],
    warp: Warp,
) -> dict[str, float]:
    # a nucleus is the student's alone, so with one the two sides differ by intent
    [scores] = score_paths(model, prompt, [view], [ids], objectives, warp=warp._replace(top_p=1.0), threshold=0.02)
    most = np.sqrt(scores.full_norm_squared[0]).max(axis=-1)
    return {objective.name: float(norm) for objective, norm in zip(objectives, most, strict=True)}


def _question(sample: Sample) -> Question:
    return Question("check", "check", sample.messages, "")


def _largest(gaps: torch.Tensor, keep: torch.Tensor) -> float:
    kept = gaps.abs()[keep]
    return float(kept.max()) if kept.numel() else 0.0


def _most(norms: dict[str, float]) -> float:
    return max(norms.values(), default=0.0)


def _also(others: int) -> str:
    return f", and so do {others} other objectives" if others else ""
