"""Everything that decides a training run. Each field is a flag of `hydrometer train` and a key of its TOML file."""

import re
from typing import Literal, NamedTuple

from pydantic import Field

from hydrometer.errors import SpecError
from hydrometer.runs.options import (
    OptionGroup,
    SamplingOptions,
    ScoringOptions,
    Specs,
    TaskOptions,
    TeacherPromptingOptions,
)

DEMO_TEACHER = "expert=bundled:expert"
"""Who teaches where no --teacher is given and the student is a bundled one."""
_TERM = re.compile(r"^(?:(?P<coefficient>[0-9.eE+-]+)\*)?(?P<objective>[a-z].*)$", re.DOTALL)


class LessonOptions(OptionGroup):
    """Who teaches whom, and what is minimised on which tokens."""

    student: str = "bundled:student"
    """Model spec of the student: a Hugging Face id or folder, or bundled:NAME."""
    teacher: Specs = ()
    """Teachers as [NAME=]MODEL[+CONTEXT]; MODEL may be 'self'. Repeat the flag for more."""
    objective: Specs = ("reverse_kl",)
    """Objectives as [COEFFICIENT*]KIND[:k=v,...]; their losses are added. Repeat the flag for more. dr_grpo learns from
    the verifier, sft from what the teacher writes (or from --sft-from)."""
    weights: str = "all"
    """Which tokens count: all, correct, incorrect (rollouts), overlap, non_overlap (tokens in both models' top-k or
    not), kl_above:QUANTILE, or the folder of a diagnosis, whose advice is followed; RULE@SHARE: a random part of a
    rule's tokens, that share of all."""
    route: str = "all"
    """Which teacher scores which rollout: all (their losses are averaged), teacher_id (the data set's column),
    correct=NAME,incorrect=NAME, or the folder of a diagnosis (the teacher it chose)."""
    self_teacher: Literal["frozen", "ema", "live"] = "frozen"
    """What 'self' stands for: the student before the first step, a moving average of it, or the student as it is."""
    ema_decay: float = Field(default=0.99, gt=0.0, lt=1.0)
    """Of the moving average, per step."""
    sft_from: str | None = None
    """JSON-lines file with columns prompt and response that sft imitates, in place of teachers' answers."""


class StepOptions(OptionGroup):
    """What one step sees, and how far it goes."""

    steps: int = Field(default=100, ge=0)
    """Optimiser steps."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Questions of the train split per step, over all processes."""
    num_generations: int = Field(default=4, ge=1)
    """Rollouts per question and step."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Rollouts in one forward and backward pass (default: as many as have 2,000 tokens on a CPU, 16,000 elsewhere); the
    result stays the same."""
    demos: int = Field(default=4, ge=1)
    """Rollouts per question that demonstrations are taken from, where a context shows some."""
    length_gate: int | None = Field(default=None, ge=1)
    """Responses with more tokens than this are not distilled on (default: all are)."""

    learning_rate: float | None = Field(default=None, gt=0.0)
    """Peak rate of AdamW (default: 1e-3 under 10 million parameters, 1e-4 with LoRA, else 2e-6)."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after the warm-up."""
    warmup_ratio: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the steps in which the rate rises from 0."""
    adam_beta2: float = Field(default=0.98, gt=0.0, lt=1.0)
    """Of AdamW; the first one is 0.9."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are scaled down to this norm."""
    lora_rank: int = Field(default=0, ge=0)
    """Train a LoRA adapter of this rank on all linear layers instead of the weights (0: the weights)."""
    lora_alpha: float | None = Field(default=None, gt=0.0)
    """Scale of the adapter (default: twice the rank)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""


class WatchingOptions(OptionGroup):
    """What is looked at meanwhile."""

    metrics_k: int | None = Field(default=None, ge=1)
    """k of the overlap metrics, and of --weights overlap (default: 16, fewer for a vocabulary below 1,536)."""
    eval_questions: int = Field(default=60, ge=0)
    """Questions of --eval-split that are answered before and after training (0: none)."""
    eval_samples: int = Field(default=8, ge=1)
    """Answers per question."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Also evaluate every so many steps."""
    eval_split: Literal["test", "diagnose"] = "test"
    """Split that is evaluated on; training takes its prompts from the train split only."""
    alarms: Literal["off", "warn", "stop"] = "warn"
    """What happens where a metric shows a known way to fail: nothing, a line, or the end of the run."""
    log_to: Specs = ()
    """tensorboard or trackio, beside metrics.jsonl."""
    save_steps: int | None = Field(default=None, ge=1)
    """Steps between checkpoints (default: whenever a minute of work has gathered)."""


class TrainConfig(
    ScoringOptions, TeacherPromptingOptions, SamplingOptions, WatchingOptions, StepOptions, TaskOptions, LessonOptions
):
    """One training run. The groups follow one another from the last to the first."""


class TermSpec(NamedTuple):
    """One summand of the loss as it was typed."""

    coefficient: float
    objective: str


def split_term(text: str) -> TermSpec:
    """Read `[COEFFICIENT*]OBJECTIVE`.

    Raises:
        SpecError: the coefficient is no number, or not above 0.
    """
    found = _TERM.match(text.strip())
    if found is None:
        raise SpecError(f"Objective '{text}': expected [COEFFICIENT*]KIND[:k=v,...], e.g. 0.1*dr_grpo")
    try:
        coefficient = 1.0 if found["coefficient"] is None else float(found["coefficient"])
    except ValueError as error:
        raise SpecError(f"Objective '{text}': '{found['coefficient']}' is no number.") from error
    if not 0.0 < coefficient < float("inf"):
        raise SpecError(f"Objective '{text}': its coefficient has to be a number above 0.")
    return TermSpec(coefficient, found["objective"])
