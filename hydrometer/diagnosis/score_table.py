"""The table `scores`: those of `alignment.score_table`, and what teachers and student solve by themselves.

    teacher_accuracy   how often a teacher is right from its own prompt, its context included
    accuracy_gain      that minus the student's; for the student with a context: its privilege gap
    new_knowledge      share of questions that the teacher solves in K tries and the student in none of K:
                       pass_t@K (1 - pass_s@K), K the fewest rollouts of either (see `probes.pattern`)

from rollouts of `--continuation teacher` or `both`, else of `--context-rollouts`; null without either.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from hydrometer.alignment.choice import Arm
from hydrometer.alignment.intervals import jackknife, mean_of_sums
from hydrometer.alignment.score_table import alignment_scores, nothing, pattern_scores, score_row
from hydrometer.alignment.study import Study
from hydrometer.artifacts import build_table
from hydrometer.diagnosis.state import QuestionState
from hydrometer.evaluation.statistics import pass_at
from hydrometer.types import STUDENT

NO_ROLLOUTS = "no_rollouts_of_the_teacher"
Counts = Int[np.ndarray, "question 2"]
"""Rollouts and correct ones."""


def count_own(states: Sequence[QuestionState]) -> pl.DataFrame:
    """question_id, model, rollouts, correct: base rollouts of the student and of every teacher that continues."""
    rows = []
    for state in states:
        found = {STUDENT: [rollout.correct for rollout in state.of_kind("base")]}
        found |= {name: continued.own for name, continued in state.continued.items() if name != STUDENT}
        rows += [(state.question.question_id, name, len(own), sum(own)) for name, own in found.items() if own]
    schema = {"question_id": pl.String, "model": pl.String, "rollouts": pl.Int64, "correct": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def count_in_context(context_rollouts: pl.DataFrame) -> pl.DataFrame:
    """The same from `context_rollouts.parquet`."""
    return (
        context_rollouts.group_by("question_id", pl.col("teacher").alias("model"))
        .agg(rollouts=pl.len().cast(pl.Int64), correct=pl.col("correct").sum().cast(pl.Int64))
        .sort("question_id", "model")
    )


def build_scores(
    studies: Sequence[Study],
    *,
    arms: Sequence[Arm],
    tables: Mapping[str, pl.DataFrame],
    own: pl.DataFrame,
) -> pl.DataFrame:
    """`scores.parquet`.

    Args:
        studies: one per continuation.
        arms: of the run.
        tables: nodes, token_scores and questions.
        own: see `count_own`.
    """
    nodes, token_scores = tables["nodes"], tables["token_scores"]
    rows = [row for study in studies for row in alignment_scores(study, nodes, token_scores, tables["questions"])]
    rows += pattern_scores(arms, nodes, token_scores)
    rows += [nothing(name, None) for name in _ACCURACIES]
    solved = {name: accuracy_scores(own, name) for name in dict.fromkeys(arm.teacher for arm in arms)}
    for arm in arms:
        named = {"teacher": arm.teacher, "objective": arm.objective, "continuation": None}
        rows += [named | row for row in solved[arm.teacher]]
    return build_table("scores", rows)


def accuracy_scores(own: pl.DataFrame, teacher: str) -> list[dict[str, Any]]:
    """What one teacher solves by itself, over the questions that it and the student both have rollouts of."""
    mine, students = (own.filter(model=name).drop("model") for name in (teacher, STUDENT))
    both = mine.join(students, on="question_id", suffix="_student").sort("question_id")
    counts = (
        both.select("rollouts", "correct").to_numpy(),
        both.select("rollouts_student", "correct_student").to_numpy(),
    )
    return [
        {"score": name} | (_mean(value(*counts)) if both.height else score_row(_NOTHING, NO_ROLLOUTS))
        for name, value in _ACCURACIES.items()
    ]


def _mean(values: Float[np.ndarray, " question"]) -> dict[str, Any]:
    sums = np.stack([np.ones(len(values)), values], axis=1)
    return score_row(jackknife(mean_of_sums, sums, sums[:, 0] > 0.0), NO_ROLLOUTS)


def _rate(counts: Counts) -> Float[np.ndarray, " question"]:
    return counts[:, 1] / counts[:, 0]


def _new_knowledge(teacher: Counts, student: Counts) -> Float[np.ndarray, " question"]:
    tries = int(min(teacher[:, 0].min(), student[:, 0].min()))
    solved, known = (pass_at(counts[:, 1], counts[:, 0], tries) for counts in (teacher, student))
    return solved * (1.0 - known)


_ACCURACIES: Mapping[str, Callable[[Counts, Counts], Float[np.ndarray, " question"]]] = {
    "teacher_accuracy": lambda teacher, student: _rate(teacher),
    "accuracy_gain": lambda teacher, student: _rate(teacher) - _rate(student),
    "new_knowledge": _new_knowledge,
}
_NOTHING = jackknife(lambda s: s[..., 0] * np.nan, np.zeros((1, 1)), np.zeros(1, dtype=bool))
