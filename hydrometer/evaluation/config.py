"""Everything that decides an evaluation. Each field is a flag of `hydrometer evaluate` and a key of its TOML file."""

from typing import Literal

from pydantic import Field

from hydrometer.runs.options import MachineOptions, OptionGroup, PromptingOptions, SamplingOptions, TaskOptions

SAMPLES = 8
"""Responses per question where none are asked for."""


class ModelOptions(OptionGroup):
    """Who is asked, and how often."""

    model: str = "bundled:student"
    """Model spec: a Hugging Face id or folder, or bundled:NAME."""
    against: str | None = None
    """Spec of a second model to compare with: it is asked the same questions with the same random numbers."""
    split: Literal["train", "diagnose", "test"] = "test"
    """Which questions of the task."""
    questions: int | None = Field(default=None, ge=1)
    """How many of them, the first ones of the split (default: all)."""
    samples: int | None = Field(default=None, ge=1)
    """Responses to each question (default 8; 1 with --greedy)."""
    greedy: bool = False
    """Take the most probable token each time, whatever the temperature."""


class EvaluateConfig(MachineOptions, PromptingOptions, SamplingOptions, TaskOptions, ModelOptions):
    """One evaluation. The groups follow one another from the last to the first."""
