"""Everything that decides a diagnosis. Each field is a flag of `hydrometer diagnose` and a key of its TOML file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from hydrometer.runs.options import (
    OptionGroup,
    SamplingOptions,
    ScoringOptions,
    Specs,
    TaskOptions,
    TeacherPromptingOptions,
)

DEMO_TEACHERS = (
    "expert=bundled:expert",
    "other-pattern=bundled:other-pattern",
    "early=bundled:early",
    "self+answer",
    "self+wrong_answer",
    "self+empty:answer",
    "self+correct_demo",
    "self+empty:correct_demo",
    "self+rule:Check every step.",
    "self+empty:rule:Check every step.",
)
"""What a run without --teacher compares: the bundled teachers, and the student with contexts, each with its control."""

_MOST_QUESTIONS_OF_A_CHOICE = 200

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class ArmOptions(OptionGroup):
    """Whose gradients are compared."""

    student: str = "bundled:student"
    """Model spec of the student: a Hugging Face id or folder, or bundled:NAME."""
    teacher: Specs = DEMO_TEACHERS
    """Teachers as [NAME=]MODEL[+CONTEXT]; MODEL may be 'self'. Repeat the flag for more."""
    objective: Specs = ("reverse_kl", "forward_kl")
    """Objectives as KIND[:k=v,...], e.g. topk_reverse_kl:k=16,form=stop_gradient. Repeat the flag for more."""


class MeasuringOptions(OptionGroup):
    """On what, and how closely."""

    candidates_from: str | None = None
    """Folder of a finished diagnosis whose questions, rollouts and kept candidates are taken as they are: nothing is
    sampled, and its teachers and new ones are scored on the same nodes and tokens."""
    rollouts_from: str | None = None
    """JSON-lines file (also .gz) of your own rollouts with their rewards, in place of --task. Nothing is sampled,
    unless --allocation is given."""
    correct_above: float = 0.5
    """With --rollouts-from: a response whose reward is above this is correct."""

    goal: Literal["both", "choose", "map"] = "both"
    """What is wanted: a choice between the arms at the least cost (looks at the ranking as questions come in, and stops
    when it is decided), a map of the tokens that matter, or both, with every candidate measured alike."""
    budget: str | None = None
    """Most that sampling may cost, as 200k tokens, 5000 rollouts or 10 minutes; what is there by then is reported."""

    questions: int = Field(default=20, ge=1)
    """How many questions of the task's diagnose split (default with --goal choose: as many as it takes, at
    most 200; with --rollouts-from: all of the file)."""
    rollouts: int = Field(default=32, ge=2)
    """On-policy rollouts per question that are counted in success rates (choose: 2)."""
    paths: int = Field(default=1, ge=1)
    """On-policy rollouts per question whose nodes are analysed, never counted (choose: 16)."""
    nodes_per_path: int | None = Field(default=None, ge=1)
    """Most nodes of a path that are analysed, spread evenly over it; each stands for its share (default: all)."""
    demos: int = Field(default=8, ge=0)
    """On-policy rollouts per question that demonstrations are taken from (never counted)."""
    context_rollouts: int = Field(default=0, ge=0)
    """Rollouts per question by every teacher from its own prompt, and as many fresh ones by the student from its own:
    how often each is right (never counted in success rates). 0: none."""

    allocation: Literal["fixed", "windowed", "on_policy", "choose", "map"] = "fixed"
    """Which branches are sampled: a fixed number of visits per candidate, depth windows by priority, none (the default
    with --rollouts-from), those that rank teachers at the least cost, or those that find the tokens that matter."""
    continuation: Literal["student", "teacher", "both"] = "student"
    """Who continues a response after a forced token: the student, every teacher for its own arms (from its own prompt,
    at the student's temperature; paid for each of them), or both."""
    visits: int = Field(default=20, ge=2)
    """Visits per candidate at which it is left alone (choose: 8; map: 40, where it surely matters)."""
    nodes_per_question: int = Field(default=1, ge=1)
    """Nodes of a question's paths that branches are sampled at (choose): they measure the length of the ideal
    direction; everything else comes from the outcomes of the paths."""
    branch_budget: int = Field(default=2000, ge=1)
    """Most branch rollouts per question (windowed)."""
    min_visits: int = Field(default=20, ge=2)
    """Visits below which a candidate is not kept (choose: 2; map: 4)."""
    candidate_threshold: Probability = 0.02
    """A token is a candidate where the student's or any teacher's probability is above this."""

    pilot: int = Field(default=0, ge=0)
    """Pilot rollouts per question (never used again); questions outside the pilot range are left out. 0: no pilot."""
    pilot_low: float = Field(default=0.15, ge=0.0, le=1.0)
    """Lowest pilot success rate of a chosen question."""
    pilot_high: float = Field(default=0.85, ge=0.0, le=1.0)
    """Highest pilot success rate of a chosen question."""

    epsilon: float = Field(default=0.02, gt=0.0)
    """Arms whose scores differ by less count as equally good."""

    summariser: str | None = None
    """Model spec of who writes summaries (default: each teacher's own model)."""
    max_summary_tokens: int = Field(default=128, ge=1)
    """Length limit of a summary."""


_BY_ALLOCATION: Mapping[str, Mapping[str, int]] = {
    "choose": {"rollouts": 2, "paths": 16, "visits": 8, "min_visits": 2},
    "map": {"visits": 40, "min_visits": 4},
}
"""Defaults that differ from those of the other allocations."""


class DiagnoseConfig(
    ScoringOptions, TeacherPromptingOptions, SamplingOptions, MeasuringOptions, TaskOptions, ArmOptions
):
    """One diagnosis. The groups follow one another from the last to the first."""

    def fit_allocation(self) -> "DiagnoseConfig":
        """The config with the defaults of its allocation where nothing else was asked for."""
        defaults = _BY_ALLOCATION.get(self.allocation, {})
        return self.model_copy(update={k: v for k, v in defaults.items() if k not in self.model_fields_set})

    def follow_goal(self) -> "DiagnoseConfig":
        """With the options that follow from the goal, where they were not given."""
        follows: dict[str, Any] = {} if self.goal == "both" else {"allocation": self.goal}
        if self.goal == "choose":
            follows["questions"] = _MOST_QUESTIONS_OF_A_CHOICE
        return self.model_copy(update={k: v for k, v in follows.items() if k not in self.model_fields_set})
