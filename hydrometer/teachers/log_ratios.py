"""log q - log p of the tokens of whole responses: the rewards that are summed to the end by `minillm`.

r_t = log q(y_t | teacher's prompt, y_<t) - log p(y_t | student's prompt, y_<t),   R_t = r_t + r_(t+1) + ...
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from hydrometer.models import CausalModel, Warp, drawn_logprobs, walk_mixture
from hydrometer.teachers.scoring import TeacherView
from hydrometer.types import STUDENT


@runtime_checkable
class ManyResponses(Protocol):
    """A model that can score many responses to one prompt at a time."""

    def sampled_logprobs(
        self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]], warp: Warp
    ) -> list[Float64[np.ndarray, " token"]]:
        """Log-probabilities (nats) of the responses' own tokens."""
        ...


def response_log_ratios(
    student: CausalModel,
    student_prompt_ids: Sequence[int],
    teachers: Sequence[TeacherView],
    responses: Sequence[Sequence[int]],
    warp: Warp,
) -> list[Float64[np.ndarray, "teacher token"]]:
    """Log q - log p (nats) at every token of every response, teachers as given.

    The temperature applies to both sides, top-p to the student alone. NaN where p = 0, which rounding at the edge of a
    nucleus can make of a token that was sampled.
    """
    own = _logprobs(TeacherView(STUDENT, student, tuple(student_prompt_ids)), responses, warp)
    theirs = [_logprobs(view, responses, warp._replace(top_p=1.0)) for view in teachers]
    ratios = []
    for number, p in enumerate(own):
        known = np.where(np.isfinite(p), p, np.nan)
        ratios.append(np.stack([q[number] - known for q in theirs]) if theirs else np.zeros((0, len(p))))
    return ratios


def _logprobs(view: TeacherView, responses: Sequence[Sequence[int]], warp: Warp) -> list[Float64[np.ndarray, " token"]]:
    if len(view.prompts) == 1 and isinstance(view.model, ManyResponses):
        return view.model.sampled_logprobs(view.prompts[0].prompt_ids, responses, warp)
    walks = walk_mixture(view.model, view.prompts, responses)
    return [drawn_logprobs(walk, response, warp) for walk, response in zip(walks, responses, strict=True)]
