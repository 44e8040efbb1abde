"""One step's responses: which questions, what the student (and, for sft, a teacher) wrote, who teaches each of them.

Questions come from the train split, reshuffled for every pass through it by the run's seed. A rollout's seed depends on
the run's seed, its question and its place in the run alone, so that a resumed run draws the same responses.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch

from hydrometer.models import CausalModel
from hydrometer.objectives import group_advantages
from hydrometer.runs.rollouts import Order, ask, read_rollouts, sample_orders
from hydrometer.sampling import Sampler, rollout_seed
from hydrometer.training.teaching import Route, Seat
from hydrometer.types import Grading, Question, Rollout, Task

Item = TypeVar("Item")
Drawn = Literal["base", "demo"]
"""What a response is for: to be taught on, or to be shown to a teacher."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """A response and what is to be learnt from it."""

    rollout: Rollout
    prompt_ids: tuple[int, ...]
    """The student's."""
    lessons: Mapping[str, tuple[int, ...]]
    """Prompt ids of every teacher that scores it, by name."""
    advantage: float = 0.0
    """Its score minus the mean of its group."""
    is_gated: bool = False
    """True where it is too long to be distilled on."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Who writes, and who says what is right."""

    student: CausalModel
    sampler: Sampler
    task: Task
    grading: Grading
    seed: int


def choose(items: Sequence[Item], *, step: int, count: int, seed: int) -> list[Item]:
    """Those of a step: the next `count` of an endless row of shuffled passes through all of them."""
    chosen = []
    orders: dict[int, np.ndarray] = {}
    for place in range(step * count, (step + 1) * count):
        turn, index = divmod(place, len(items))
        if turn not in orders:
            orders[turn] = np.random.default_rng([seed, turn]).permutation(len(items))
        chosen.append(items[int(orders[turn][index])])
    return chosen


def write_responses(
    writers: Writers, places: Sequence[int], questions: Sequence[Question], *, step: int, count: int, kind: Drawn
) -> list[list[Rollout]]:
    """`count` responses by the student to each question, graded; `places` are the questions' places in the step."""
    stream = "train" if kind == "base" else kind
    orders = [
        Order(
            question,
            asked.prompt_ids,
            step * count + number,
            kind,
            rollout_seed(writers.seed, f"{stream}\x1f{place}\x1f{question.question_id}", step * count + number),
            is_thinking=asked.is_thinking,
        )
        for place, question in zip(places, questions, strict=True)
        for asked in (ask(writers.student, question.prompt),)
        for number in range(count)
    ]
    record = sample_orders(orders, writers.sampler, writers.student, writers.task)
    drawn = read_rollouts(orders, record, writers.student, writers.grading)
    rollouts = [one.rollout for one in drawn]
    return [rollouts[start : start + count] for start in range(0, len(rollouts), count)]


def set_exercises(
    student: CausalModel,
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    seats: Mapping[str, Seat],
    route: Route,
    demos: Sequence[Sequence[Rollout]],
    *,
    length_gate: int | None,
) -> tuple[list[Exercise], Counter[str]]:
    """Every response with its teachers' prompts and its advantage; and how often each teacher had nothing to show."""
    exercises: list[Exercise] = []
    skipped: Counter[str] = Counter()
    advantages = _advantages(groups)
    for question, group, shown in zip(questions, groups, demos, strict=True):
        prompt_ids = student.render(question.prompt)
        for rollout in group:
            lessons = {}
            for name in route(question, rollout.correct):
                prompt = seats[name].prompt(question, shown, [rollout])
                if prompt.reason is None:
                    lessons[name] = seats[name].prompt_ids(prompt)
                else:
                    skipped[name] += 1
            is_gated = length_gate is not None and len(rollout.token_ids) > length_gate
            exercises.append(Exercise(rollout, prompt_ids, lessons, advantages[len(exercises)], is_gated))
    return exercises, skipped


def _advantages(groups: Sequence[Sequence[Rollout]]) -> list[float]:
    rewards = [rollout.score for group in groups for rollout in group]
    owners = [number for number, group in enumerate(groups) for _ in group]
    if not rewards:
        return []
    return group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(owners)).tolist()
