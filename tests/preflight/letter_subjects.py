"""A scripted student and teacher of eight tokens, and subjects made of them."""

from functools import cache
from typing import Any

import numpy as np

from hydrometer.models import Warp
from hydrometer.objectives import parse
from hydrometer.preflight.subjects import Subjects
from hydrometer.sampling import SamplingSettings, ScriptedModel
from hydrometer.types import Message

TOKENS = ("a", "b", "c", "d", "e", "f", "g", "<eos>")
EOS = 7
OBJECTIVES = tuple(parse(text) for text in ("reverse_kl", "forward_kl", "topk_reverse_kl:k=2,form=tail_bin"))
PROMPTS = tuple((Message("user", f"question {i}"),) for i in range(4))


@cache
def student_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """A different distribution at every prefix; about one response in twelve ends at each step."""
    weights = np.random.default_rng([*prompt, 77, *response]).dirichlet(np.full(7, 0.8)) * (11 / 12)
    return np.append(weights, 1 / 12)


@cache
def teacher_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    weights = student_probs(prompt, response) ** 1.6
    return weights / weights.sum()


def build_subjects(student: Any = None, teachers: Any = None, sampler: Any = None, **changes: Any) -> Subjects:
    model = student or ScriptedModel(TOKENS, student_probs, name="student")
    warp = changes.pop("warp", Warp())
    named = {"teacher": ScriptedModel(TOKENS, teacher_probs, name="teacher")} if teachers is None else teachers
    drawing = sampler or model.sampler(SamplingSettings(40, warp))
    return Subjects(model, drawing, named, PROMPTS, OBJECTIVES, warp, **{"probe_tokens": 40} | changes)
