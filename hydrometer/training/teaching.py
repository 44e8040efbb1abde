"""Who teaches which response, and from which prompt.

A teacher of a training run is a model with a context, as in a diagnosis. `self` stands for the student before the first
step (frozen), for a moving average of its weights (ema: a <- decay a + (1 - decay) weights after every step), or for
the student as it is (live). A frozen self with LoRA is the student without its adapter and needs no copy.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from hydrometer.models import ScoreCache
from hydrometer.models.rows import join_rows
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import predicting_states, takes_trees
from hydrometer.runs.teachers import Teacher
from hydrometer.teachers import TeacherPrompt, blank_text, build_teacher_prompt
from hydrometer.training.networks import freeze_copy, without_adapter
from hydrometer.types import Question, Rollout


@dataclass(frozen=True, slots=True)
class Seat:
    """A teacher in its place."""

    teacher: Teacher
    model: TransformersModel
    as_teacher: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Entered while its network is used."""
    is_self: bool = False

    def predicting_states(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> Float[Tensor, "token width"]:
        """Its last hidden states at the response tokens, row after row; from the score cache where that has them."""

        def make() -> Tensor:
            batch = join_rows(prompts, responses, device=self.model.device)
            with self.as_teacher():
                return predicting_states(self.model.network, batch)

        way = "tree" if takes_trees(self.model.network) else "padded"
        return self.model.recall(way, list(zip(prompts, responses, strict=True)), make)

    @property
    def name(self) -> str:
        """Of the teacher."""
        return self.teacher.name

    def prompt(self, question: Question, demos: Sequence[Rollout], refuse: Sequence[Rollout]) -> TeacherPrompt:
        """What it is shown for a question; `reason` says why it has to be skipped, where it has."""
        return build_teacher_prompt(
            self.teacher.context,
            question,
            demos=demos,
            refuse=refuse,
            blank=lambda text: blank_text(self.model, text),
            frame=self.teacher.frame,
        )

    def prompt_ids(self, prompt: TeacherPrompt) -> tuple[int, ...]:
        """The same as token ids."""
        return self.model.render(prompt.messages, assistant=prompt.assistant)


class MovingAverage:
    """Owns a copy of the student that follows its weights slowly."""

    def __init__(self, model: TransformersModel, decay: float):
        self.model = freeze_copy(model)
        self.decay = decay
        self.followed = [
            (mine, theirs)
            for mine, theirs in zip(self.model.network.parameters(), model.network.parameters(), strict=True)
            if theirs.requires_grad
        ]

    @torch.no_grad()
    def follow(self) -> None:
        """Move towards the student's weights."""
        for mine, theirs in self.followed:
            mine.lerp_(theirs.to(mine.dtype), 1.0 - self.decay)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to hold."""
        return {f"average.{number}": mine for number, (mine, _) in enumerate(self.followed)}


def seat_self(
    student: TransformersModel, adapted: PeftModel | None, mode: str, decay: float, cache: ScoreCache | None
) -> tuple[TransformersModel, Callable[[], AbstractContextManager[Any]], MovingAverage | None]:
    """The model that `self` stands for, how it is entered, and what has to be moved after each step.

    Only one that stays as it is gets the score cache.
    """
    match mode:
        case "live":
            return student, nullcontext, None
        case "ema":
            average = MovingAverage(student, decay)
            return average.model, nullcontext, average
    if adapted is not None:
        return student.with_cache(cache), lambda: without_adapter(adapted), None
    return freeze_copy(student).with_cache(cache), nullcontext, None


Route = Callable[[Question, bool], tuple[str, ...]]
"""(question, whether the rollout is correct) -> names of the teachers that score it."""
