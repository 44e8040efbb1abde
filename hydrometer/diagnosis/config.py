"""Everything that decides a diagnosis. Each field is a flag of `hydrometer diagnose` and a key of its TOML file."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

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

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Specs = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One spec or several."""


def _as_json(value: object) -> object:
    """A JSON object that the command line has read already becomes the text that it was."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(json.dumps(part) if isinstance(part, dict) else part for part in parts)


class DiagnoseConfig(BaseModel):
    """One diagnosis."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    student: str = "bundled:student"
    """Model spec of the student: a Hugging Face id or folder, or bundled:NAME."""
    teacher: Specs = DEMO_TEACHERS
    """Teachers as [NAME=]MODEL[+CONTEXT]; MODEL may be 'self'. Repeat the flag for more."""
    objective: Specs = ("reverse_kl", "forward_kl")
    """Objectives as KIND[:k=v,...], e.g. topk_reverse_kl:k=16,form=stop_gradient. Repeat the flag for more."""
    task: str = "bundled:chain"
    """Task spec: bundled:chain, bundled:chain-strict, boolq, mmlu, gsm8k, math500, aime2024, aime2025 (each also as
    NAME:PATH), reasoning_gym:NAME, jsonl:PATH, hf:DATASET[@REVISION][/CONFIG]."""
    verifier: str | None = None
    """What grades responses: exact, boolean, choice, integer, math, reasoning_gym or a function of yours as
    module:function (default: the task's own)."""
    grading: Literal["strict", "relaxed"] = "strict"
    """Which grading counts: strict reads the answer in the form the prompt asks for, relaxed also elsewhere."""

    candidates_from: str | None = None
    """Folder of a finished diagnosis whose questions, rollouts and kept candidates are taken as they are: nothing is
    sampled, and its teachers and new ones are scored on the same nodes and tokens."""
    rollouts_from: str | None = None
    """JSON-lines file (also .gz) of your own rollouts with their rewards, in place of --task. Nothing is sampled,
    unless --allocation is given."""
    correct_above: float = 0.5
    """With --rollouts-from: a response whose reward is above this is correct."""

    questions: int = Field(default=20, ge=1)
    """How many questions of the task's diagnose split (with --rollouts-from the default is all of the file)."""
    rollouts: int = Field(default=32, ge=2)
    """On-policy rollouts per question that are counted in success rates."""
    paths: int = Field(default=1, ge=1)
    """On-policy rollouts per question whose nodes are analysed (never counted)."""
    nodes_per_path: int | None = Field(default=None, ge=1)
    """Most nodes of a path that are analysed, spread evenly over it; each stands for its share (default: all)."""
    demos: int = Field(default=8, ge=0)
    """On-policy rollouts per question that demonstrations are taken from (never counted)."""
    context_rollouts: int = Field(default=0, ge=0)
    """Rollouts per question by every teacher from its own prompt, and as many fresh ones by the student from its own:
    how often each is right (never counted in success rates). 0: none."""
    max_response_tokens: int = Field(default=96, ge=1)
    """Length limit of a response."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature; applied to teachers too."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus of the student's sampling distribution."""

    allocation: Literal["fixed", "windowed", "on_policy"] = "fixed"
    """Which branches are sampled: a fixed number of visits per candidate, depth windows by priority, or none (the
    default with --rollouts-from)."""
    visits: int = Field(default=20, ge=2)
    """Visits per candidate at which it is left alone."""
    branch_budget: int = Field(default=2000, ge=1)
    """Most branch rollouts per question (windowed)."""
    min_visits: int = Field(default=20, ge=2)
    """Visits below which a candidate is not kept."""
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
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of every random number of the run."""

    summariser: str | None = None
    """Model spec of who writes summaries (default: each teacher's own model)."""
    max_summary_tokens: int = Field(default=128, ge=1)
    """Length limit of a summary."""
    template: Specs = ()
    """Words of your own around a context's content, as CONTEXT=FILE. Repeat the flag for more."""
    system_prompt: str | None = None
    """System prompt of student and teachers: TEXT or @FILE."""
    chat_template: Specs = ()
    """Chat template to use instead of the student's own: FILE; or of a teacher's: NAME=FILE."""
    chat_template_kwargs: Annotated[Specs, BeforeValidator(_as_json)] = ()
    """Variables for the chat templates: name=value or a JSON object, e.g. enable_thinking=false."""
    plain_prompt: bool = False
    """Put questions as plain text ("Question: ... Answer:") to models that have no chat template."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and forward passes; sampling and scoring use the same."""
    device: str = "cpu"
    """Where the models run, e.g. cpu, cuda, cuda:1."""
    threads: int = Field(default=1, ge=1)
    """Torch threads on the CPU. On two shared cores one was faster than two; give more where cores are your own."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rollouts sampled at a time (default: what fits in about 1 GiB)."""


RUNTIME_FIELDS = frozenset({"device", "threads", "batch_size"})
"""Fields that a resumed run may change: they move rounding, not what is computed."""


def explain_invalid(error: ValidationError) -> str:
    """A pydantic error as one line per field, quoting what was given."""
    lines = []
    for problem in error.errors()[:8]:
        name = ".".join(str(part) for part in problem["loc"][:1]) or "options"
        if problem["type"] == "extra_forbidden":
            lines.append(f"Unknown option '{name}'. Known: {', '.join(DiagnoseConfig.model_fields)}.")
        else:
            lines.append(f"Option '{name}' is {problem['input']!r}: {problem['msg'].lower()}.")
    return "\n".join(lines)
