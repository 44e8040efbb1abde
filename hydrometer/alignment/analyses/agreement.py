"""Do teacher advantage and cosine tell the same story? Correlation over nodes, and the share of equal signs.

    agreement = sum W [sign a = sign c] / sum W    over nodes where both are known and neither is 0
    by chance = P(a > 0) P(c > 0) + P(a < 0) P(c < 0)    if the signs were independent
    same rollouts: both from all rollouts,   split: advantage from one half, cosine from the other

Both are linear in the same success rates, so that with the same rollouts their noise agrees as well: only `split`
is about the teacher. Noise turns signs over there, which pulls it towards chance.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from hydrometer.alignment.analyses.correlation import METHODS, Nodes, correlation_copies, jackknife_correlation
from hydrometer.alignment.choice import Arm
from hydrometer.alignment.contributions import sum_nodes
from hydrometer.alignment.entries import describe
from hydrometer.alignment.intervals import CORRELATION, SHARE, jackknife, ratio
from hydrometer.alignment.study import Study

NO_NODES = "no_nodes"
_ROUNDING = 1e-12
Values = Float[np.ndarray, " node"]
Sums = Float[np.ndarray, "*batch 4"]


def advantage_against_cosine(study: Study, arm: Arm) -> dict[str, Any]:
    """Correlations and sign agreement of one arm, with the same rollouts and with separate halves."""
    entry: dict[str, Any] = {"teacher": arm.teacher, "objective": arm.objective, "continuation": study.continuation}
    t = arm.place[0]
    cosine, advantage = study.scores.cosine[arm.place], study.scores.advantage[t]
    in_a, in_b = (_advantage(study, t, rates) for rates in (study.kept.rates_a, study.kept.rates_b))
    pairs = {
        "same_rollouts": [(advantage, cosine)],
        "split": [(in_a, study.half_b.cosine[arm.place]), (in_b, study.half_a.cosine[arm.place])],
    }
    for name, ways in pairs.items():
        present = study.scores.is_present[arm.place]
        sums = np.sum([_sign_sums(study, np.where(present, a, np.nan), c) for a, c in ways], axis=0)
        has_node = sums[:, 0] > 0.0
        advantages, cosines = (np.concatenate(side) for side in zip(*ways, strict=True))
        entry[name] = {
            **_correlations(study, advantages, cosines, np.tile(present, len(ways))),
            "sign_agreement": describe(jackknife(_agreement, sums, has_node, limits=SHARE), reason=NO_NODES),
            "by_chance": describe(jackknife(_by_chance, sums, has_node, limits=SHARE), reason=NO_NODES),
            "excess": describe(
                jackknife(lambda s: _agreement(s) - _by_chance(s), sums, has_node, limits=CORRELATION), reason=NO_NODES
            ),
        }
    return entry


def _advantage(study: Study, teacher: int, rates: Float[np.ndarray, "node candidate"]) -> Values:
    """Advantage from the success rates of one half, NaN where one is unknown."""
    kept = study.kept
    known = np.where(kept.is_candidate, rates, 0.0)
    return ((study.scores.teacher_weights[teacher] - kept.weights) * known).sum(-1)


def _correlations(study: Study, advantage: Values, cosine: Values, present: np.ndarray) -> dict[str, Any]:
    usable = present & np.isfinite(advantage) & np.isfinite(cosine)
    question = np.tile(study.labels.question, len(usable) // max(len(study.kept), 1))[usable]
    nodes = Nodes(
        np.stack([cosine[usable], advantage[usable]]),
        question,
        len(study.labels.questions),
        np.zeros(len(question), dtype=np.int64),
    )
    return {"n_nodes": int(usable.sum())} | {
        method: describe(
            jackknife_correlation(correlation_copies(nodes, method).overall, nodes), (0,), reason="no_variation"
        )
        for method in METHODS
    }


def _sign_sums(study: Study, advantage: Values, cosine: Values) -> Float[np.ndarray, "question 4"]:
    """W of the nodes with two signs, of those that agree, of positive advantages and of positive cosines."""
    a, c = np.nan_to_num(advantage), np.nan_to_num(cosine)
    both = (np.abs(a) > _ROUNDING) & (np.abs(c) > _ROUNDING)
    flags = np.stack([both, both & (a * c > 0.0), both & (a > 0.0), both & (c > 0.0)])
    return sum_nodes(study.labels, flags.astype(np.float64))


def _agreement(sums: Sums) -> Float[np.ndarray, "*batch"]:
    return ratio(sums[..., 1], sums[..., 0])


def _by_chance(sums: Sums) -> Float[np.ndarray, "*batch"]:
    total = np.where(sums[..., 0] > 0.0, sums[..., 0], np.nan)
    a, c = sums[..., 2] / total, sums[..., 3] / total
    return np.asarray(a * c + (1.0 - a) * (1.0 - c))
