"""Which teacher for which question: the best arm overall, unless another one is clearly better for this question.

    x(question, teacher) = sum over its nodes of W g.d / D,   D^2 = sum over all questions of W |d|^2
    better: x(other) - x(default) > z  sum over nodes of W sd_u,   sd_u^2 = M^2 sum_k (w_k c_k)^2 v_k

with c the difference of the two directions over D, minus its w-mean, and v the variance of Beta(s + 1/2, n - s + 1/2),
which is not 0 where all of a few rollouts failed. Rollouts are shared along a path, so that the noises of its nodes may
add up fully: the bound takes them as perfectly correlated, and z is a normal quantile at 5 % over all questions and
teachers (Bonferroni). It claims little.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from hydrometer.alignment.choice import Arm
from hydrometer.alignment.contributions import sum_nodes
from hydrometer.alignment.study import Study

LEVEL = 0.05


class QuestionChoice(NamedTuple):
    """One question's teacher."""

    question_id: str
    teacher: str
    is_separated: bool
    """True where this teacher beats the default one for this very question."""


def choose_by_question(study: Study, default: Arm, *, teachers: frozenset[str] | None = None) -> list[QuestionChoice]:
    """The teacher of every question with a measured node, all with the default arm's objective.

    Args:
        study: of one continuation.
        default: the arm taken where nothing separates the teachers.
        teachers: who may be chosen instead (default: all of the study).
    """
    others = [
        arm
        for arm in study.arms
        if arm.objective == default.objective
        and arm.teacher != default.teacher
        and (teachers is None or arm.teacher in teachers)
    ]
    questions = study.labels.questions
    if not others:
        return [QuestionChoice(question, default.teacher, False) for question in questions]
    z = stats.norm.isf(LEVEL / (len(others) * max(len(questions), 1)))
    lead = np.stack([_lead(study, arm, default, float(z)) for arm in others])
    best = lead.argmax(0)
    return [
        QuestionChoice(question, others[best[i]].teacher, True)
        if lead[best[i], i] > 0.0
        else QuestionChoice(question, default.teacher, False)
        for i, question in enumerate(questions)
    ]


def _lead(study: Study, arm: Arm, default: Arm, z: float) -> Float[np.ndarray, " question"]:
    """How far an arm is ahead of the default, beyond what noise can do; nodes that both were scored at."""
    kept, both = study.kept, study.scores.is_present[arm.place] & study.scores.is_present[default.place]
    apart = _scaled(study, arm) - _scaled(study, default)
    centred = apart - (kept.weights * apart).sum(-1, keepdims=True)
    inner = kept.mass * (kept.weights * centred * kept.rates).sum(-1)
    failures, successes = (1.0 - kept.rates) * kept.visits + 0.5, kept.rates * kept.visits + 0.5
    spread = failures * successes / ((kept.visits + 1.0) ** 2 * (kept.visits + 2.0))
    variance = (kept.mass[:, None] * kept.weights * centred) ** 2 * spread
    sums = sum_nodes(study.labels, np.stack([inner, np.sqrt(variance.sum(-1))]) * both)
    return sums[:, 0] - z * sums[:, 1]


def _scaled(study: Study, arm: Arm) -> Float[np.ndarray, "node candidate"]:
    """The arm's directions over their common length."""
    direction = study.scores.directions[arm.place]
    square = study.labels.weight @ (direction**2).sum(-1)
    return direction / np.sqrt(square) if square > 0.0 else direction
