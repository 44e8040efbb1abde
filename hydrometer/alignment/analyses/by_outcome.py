"""Are nodes of correct paths aligned differently from those of incorrect ones, per arm?

    difference = statistic over all nodes of correct paths - the same over those of incorrect paths
    clustered:  t = difference / se, se the delete-one-question jackknife, min(questions of either outcome) - 1 degrees
    paired:     exact Wilcoxon signed-rank test over the questions that have paths of both outcomes

With one path per question no question has both, so the paired test has nothing to say; the clustered comparison still
has. It compares different questions then, and questions with correct paths are easier ones: a difference may be one of
questions, not of outcomes. The paired test is free of that. arXiv 2605.10889 does not name its test.
"""

from typing import Any

import numpy as np
from scipy import stats

from hydrometer.alignment.arms import MetricTable, outcome_parts, tabulate
from hydrometer.alignment.choice import Arm
from hydrometer.alignment.contributions import SPLITS
from hydrometer.alignment.entries import describe, finite
from hydrometer.alignment.families import outcome_differences
from hydrometer.alignment.hypotheses import holm, signed_rank
from hydrometer.alignment.intervals import difference
from hydrometer.alignment.metrics import METRICS, TERMS
from hydrometer.alignment.study import Study

COMPARED = ("mean_cosine", "weighted_cosine", "mean_advantage")
NO_PAIR = "no_question_with_both_outcomes"
ONE_OUTCOME = "undefined_in_one_split"


def compare_outcomes(study: Study) -> list[dict[str, Any]]:
    """One row per metric and arm that is not a reference; each metric is a family for Holm's correction."""
    rows: list[dict[str, Any]] = []
    for metric in COMPARED:
        table = tabulate(METRICS[metric], study.sums)
        family = [_compare(study, arm, metric, table) for arm in study.arms if not arm.reference]
        for test in ("clustered", "paired"):
            p = [np.nan if row[test]["p"] is None else row[test]["p"] for row in family]
            for row, adjusted in zip(family, holm(p), strict=True):
                row[test] |= {"p_holm": finite(adjusted), "family_size": int(np.isfinite(p).sum())}
        rows += family
    return rows


def _compare(study: Study, arm: Arm, metric: str, table: MetricTable) -> dict[str, Any]:
    correct, incorrect = outcome_parts(table, arm.place)
    gap = difference(correct, incorrect)
    degrees = max(int(gap.n_questions) - 1, 1)
    p = 2.0 * stats.t.sf(abs(gap.value) / gap.standard_error, degrees) if gap.standard_error > 0.0 else np.nan
    rank = signed_rank(outcome_differences(study.sums, arm, metric))
    counted = study.sums.counts[:, :, *arm.place, TERMS.index(METRICS[metric].counted)] > 0.0
    both = counted[:, SPLITS.index("correct")] & counted[:, SPLITS.index("incorrect")]
    return {
        "teacher": arm.teacher,
        "objective": arm.objective,
        "continuation": study.continuation,
        "metric": metric,
        "correct": describe(correct),
        "incorrect": describe(incorrect),
        "n_questions_both": int(both.sum()),
        "clustered": describe(gap, reason=ONE_OUTCOME) | {"p": finite(p)},
        "paired": {
            "n_questions": rank.n_questions,
            "median": finite(rank.median),
            "p": finite(rank.p),
            "least_attainable_p": rank.least_attainable_p,
            "reason": None if np.isfinite(rank.p) else NO_PAIR,
        },
    }
