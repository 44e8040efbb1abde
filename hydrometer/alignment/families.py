"""The named families of tests: correct against incorrect, each teacher against `no teacher`, and against its control.

    correct against incorrect: per question, the statistic over nodes of correct paths minus that of incorrect paths
    against `no teacher`:      per question, sum W g.d, whose value for no teacher is 0
    against its control:       per question, sum W g.d / sqrt(sum W |d|^2 over all questions), teacher minus control

The last two use a question's contribution to the pooled cosine, which is linear in the success rates and therefore not
biased by their noise. Norms are those of the whole arm: dividing by a question's own would let a tiny direction decide.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hydrometer.alignment.choice import Arm
from hydrometer.alignment.contributions import SPLITS, QuestionSums
from hydrometer.alignment.entries import finite
from hydrometer.alignment.hypotheses import SignedRank, holm, signed_rank
from hydrometer.alignment.metrics import METRICS, TERMS
from hydrometer.types import NO_TEACHER

CORRECT_AGAINST_INCORRECT = "correct against incorrect"
AGAINST_NO_TEACHER = "against no teacher"
AGAINST_CONTROL = "against control"


def run_families(
    arms: Sequence[Arm], sums: QuestionSums, teachers: Sequence[str], controls: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All tests as rows for `summary.json`, Holm-adjusted within their family. References are not tested."""
    tested = [arm for arm in arms if not arm.reference]
    rows: list[dict[str, Any]] = []
    for metric in ("mean_cosine", "weighted_cosine"):
        family = f"{CORRECT_AGAINST_INCORRECT}: {metric}"
        rows += _family(family, [(arm, "", outcome_differences(sums, arm, metric)) for arm in tested])
    contributions = {arm.place: pooled_contributions(sums, arm.place) for arm in tested}
    rows += _family(AGAINST_NO_TEACHER, [(arm, NO_TEACHER, contributions[arm.place]) for arm in tested])
    pairs = []
    for arm in tested:
        control = controls.get(arm.teacher)
        if control is not None and control in teachers:
            place = (list(teachers).index(control), arm.place[1])
            pairs.append((arm, control, contributions[arm.place] - contributions[place]))
    return rows + _family(AGAINST_CONTROL, pairs)


def outcome_differences(sums: QuestionSums, arm: Arm, metric: str) -> Float[np.ndarray, " question"]:
    """Correct minus incorrect per question; NaN where a question lacks one of them."""
    values = METRICS[metric].value(sums.sums[:, :, *arm.place])
    return values[:, SPLITS.index("correct")] - values[:, SPLITS.index("incorrect")]


def pooled_contributions(sums: QuestionSums, place: tuple[int, int]) -> Float[np.ndarray, " question"]:
    """A question's share of the pooled inner product, over the length of the arm's direction; NaN without a node."""
    own = sums.sums[:, 0, *place]
    length = np.sqrt(own[:, TERMS.index("direction_square")].sum())
    inner = own[:, TERMS.index("inner")]
    scaled = inner / length if length > 0.0 else np.zeros_like(inner)
    return np.where(own[:, TERMS.index("nodes")] > 0.0, scaled, np.nan)


def _family(name: str, members: Sequence[tuple[Arm, str, np.ndarray]]) -> list[dict[str, Any]]:
    results: list[SignedRank] = [signed_rank(differences) for _, _, differences in members]
    adjusted = holm([result.p for result in results])
    return [
        {
            "family": name,
            "teacher": arm.teacher,
            "objective": arm.objective,
            "against": against or None,
            "n_questions": result.n_questions,
            "median": finite(result.median),
            "p": finite(result.p),
            "p_holm": finite(p_holm),
            "family_size": sum(math.isfinite(other.p) for other in results),
            "least_attainable_p": result.least_attainable_p,
            "reason": None if math.isfinite(result.p) else "no_question_with_a_difference",
        }
        for (arm, against, _), result, p_holm in zip(members, results, adjusted, strict=True)
    ]
