"""Who continues after a forced token, and what those continuations have shown.

A teacher continues as it teaches: from its own prompt (its context, in its own chat template) and the student's tokens,
at the student's temperature, until an end of its own. The top-p of the student is not applied to it, so that what it is
sampled from is exactly the q that it is scored with.

Candidates under a teacher are tokens with p or its own q above the threshold, so that another teacher in the run
changes none of its numbers; under the student they are those of all teachers. Weights are the student's either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from hydrometer.diagnosis.branches import Branches
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.roles import build_teacher_samplers
from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Warp
from hydrometer.objectives import Objective
from hydrometer.runs.drawing import Writer
from hydrometer.runs.rollouts import Asked
from hydrometer.runs.teachers import Teacher
from hydrometer.sampling import SamplingSettings
from hydrometer.success.allocation import Forcible
from hydrometer.success.tree import PrefixTree
from hydrometer.teachers import PathScores
from hydrometer.types import STUDENT, Grades, Rollout

_IDS_PER_TEACHER = 1_000_000
"""Rollout ids that are set apart for each teacher's continuations of a question."""


@dataclass(frozen=True, slots=True)
class Continuer:
    """A model that continues forced tokens."""

    writer: Writer
    first_id: int
    """Of its rollouts, where it is a teacher: the student's ids and seeds are the same whoever else continues."""

    @property
    def name(self) -> str:
        """`student`, or the teacher's name."""
        return self.writer.name

    @property
    def round_kind(self) -> str:
        """What its rounds of branches are called in the journal."""
        return "branch" if self.name == STUDENT else f"branch by {self.name}"


class Continued:
    """What one model's continuations of a question have shown."""

    def __init__(self, question_id: str, model: str):
        self.tree = PrefixTree(question_id, model=model)
        self.rollouts = Branches()
        """Branches, and what a teacher wrote from its own prompt (the student's own stand in the question's state)."""
        self.own: list[bool] = []
        """Whether each rollout that a teacher wrote from its own prompt is correct."""
        self.listed: Forcible | None = None
        """The (node, token) pairs that branches may be forced to."""
        self.asked: Asked | None = None
        """The model's prompt."""
        self.ordered = 0
        """Rollouts that were asked of a teacher so far."""

    def add(self, rollout: Rollout, grades: Grades) -> None:
        """Take in a rollout; what comes before the paths are in the tree is counted when they are."""
        self.rollouts.add(rollout, grades)
        if rollout.kind == "base":
            self.own.append(rollout.correct)
        if self.listed is not None:
            self.tree.count(rollout)


def candidates_under(
    name: str, scores: PathScores, scored_teachers: Sequence[str], threshold: float
) -> Bool[np.ndarray, " candidate"]:
    """Which listed candidates of a path are candidates where this model continues."""
    if name == STUDENT:
        return np.ones(len(scores.position), dtype=bool)
    own = scores.teacher_logprob[scored_teachers.index(name)]
    level = np.log(threshold)
    return (scores.student_logprob > level) | (own > level)


def build_continuers(config: DiagnoseConfig, student: Writer, teachers: Sequence[Teacher]) -> tuple[Continuer, ...]:
    """Everyone who continues in this run, the student first.

    Raises:
        SpecError: a teacher that can score but not write, or that would write on after the student's end.
    """
    found = [] if config.continuation == "teacher" else [Continuer(student, 0)]
    if config.continuation == "student":
        return tuple(found)
    for teacher in teachers:
        _refuse_other_ends(student.model, teacher)
    settings = SamplingSettings(config.max_response_tokens, Warp(config.temperature))
    asked = (
        f"--continuation {config.continuation} asks every teacher to continue responses. Take --continuation student, "
        "or give a model that can be sampled from."
    )
    samplers = build_teacher_samplers(teachers, settings, batch_size=config.batch_size, asked=asked)
    for place, teacher in enumerate(teachers, start=1):
        writer = Writer(teacher.name, teacher.model, samplers[teacher.name])
        found.append(Continuer(writer, place * _IDS_PER_TEACHER))
    return tuple(found)


def _refuse_other_ends(student: CausalModel, teacher: Teacher) -> None:
    if missing := sorted(student.eos_ids - teacher.model.eos_ids):
        text = student.token_text(missing[0])
        raise SpecError(
            f"Teacher '{teacher.name}' does not end a response with {text!r}, as the student does: it would write on "
            "after the student's end. Add that token to eos_token_id in its generation_config.json, or take "
            "--continuation student."
        )


def refuse_continuation(config: DiagnoseConfig, objectives: Sequence[Objective]) -> None:
    """Options that leave teachers nothing to continue, or objectives that are made of the student's own continuations.

    Raises:
        SpecError: there is one.
    """
    if config.continuation == "student":
        return
    asked = f"--continuation {config.continuation}"
    if config.candidates_from is not None:
        raise SpecError(f"--candidates-from samples nothing, and {asked} asks teachers to continue responses.")
    if config.allocation == "on_policy":
        raise SpecError(f"--allocation on_policy samples no branches, and {asked} asks teachers to continue them.")
    for objective in objectives:
        if objective.needs == "reward_to_go":
            raise SpecError(
                f"Objective '{objective.name}' is averaged over the student's own continuations: leave it out, or take "
                f"--continuation student, not {config.continuation}."
            )
        if objective.needs == "success_rates" and config.continuation == "teacher":
            raise SpecError(
                f"Objective '{objective.name}' follows the student's own success rates: leave it out, or take "
                "--continuation both."
            )
