"""Options that every kind of run shares, in groups that its own config joins.

Each field is a flag on the command line and a key of a TOML file; its docstring is its help.
"""

import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Specs = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One spec or several."""


def _as_json(value: object) -> object:
    """A JSON object that the command line has read already becomes the text that it was."""
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(json.dumps(part) if isinstance(part, dict) else part for part in parts)


class OptionGroup(BaseModel):
    """Some options of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class TaskOptions(OptionGroup):
    """What is asked, and what counts as right."""

    task: str = "bundled:chain"
    """Task spec: bundled:chain, bundled:chain-strict, boolq, mmlu, gsm8k, math500, aime2024, aime2025 (each also as
    NAME:PATH), reasoning_gym:NAME, jsonl:PATH, hf:DATASET[@REVISION][/CONFIG]."""
    verifier: str | None = None
    """What grades responses: exact, boolean, choice, integer, math, reasoning_gym or a function of yours as
    module:function (default: the task's own)."""
    grading: Literal["strict", "relaxed"] = "strict"
    """Which grading counts: strict reads the answer in the form the prompt asks for, relaxed also elsewhere."""


class WarpOptions(OptionGroup):
    """Which distribution is sampled from."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature; applied to teachers too."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus of the student's sampling distribution."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of every random number of the run."""


class SamplingOptions(WarpOptions):
    """How responses are drawn."""

    max_response_tokens: int = Field(default=96, ge=1)
    """Length limit of a response."""


class PromptingOptions(OptionGroup):
    """How prompts are written."""

    prompt_template: str | None = None
    """Words around every question in place of the task's own: TEXT or @FILE, in which $question stands for the question
    (empty: the task's own)."""
    system_prompt: str | None = None
    """System prompt of student and teachers: TEXT or @FILE."""
    chat_template: Specs = ()
    """Chat template to use instead of the student's own: FILE; or of a teacher's: NAME=FILE."""
    chat_template_kwargs: Annotated[Specs, BeforeValidator(_as_json)] = ()
    """Variables for the chat templates: name=value or a JSON object, e.g. enable_thinking=false."""
    plain_prompt: bool = False
    """Put questions as plain text ("Question: ... Answer:") to models that have no chat template."""


class TeacherPromptingOptions(PromptingOptions):
    """The same where there are teachers with contexts."""

    template: Specs = ()
    """Words of your own around a context's content, as CONTEXT=FILE. Repeat the flag for more."""


class MachineOptions(OptionGroup):
    """What the models run on."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and forward passes; sampling and scoring use the same."""
    device: str = "cpu"
    """Where the models run, e.g. cpu, cuda, cuda:1."""
    threads: int = Field(default=1, ge=1)
    """Torch threads on the CPU. On two shared cores one was faster than two; give more where cores are your own."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rollouts sampled at a time (default: what fits in about 1 GiB)."""


class ScoringOptions(MachineOptions):
    """The same where models score responses."""

    score_cache: str | None = None
    """Folder in which the hidden states of frozen models are kept, for every run that scores the same again (default:
    they are not kept)."""


RUNTIME_FIELDS = frozenset({"device", "threads", "batch_size", "score_cache"})
"""Fields that a resumed run may change: they move rounding, not what is computed."""


def explain_invalid(error: ValidationError, known: Iterable[str] = ()) -> str:
    """A pydantic error as one line per field, quoting what was given; `known` are the names that there are."""
    lines = []
    for problem in error.errors()[:8]:
        name = ".".join(str(part) for part in problem["loc"][:1]) or "options"
        if problem["type"] == "extra_forbidden":
            lines.append(f"Unknown option '{name}'. Known: {', '.join(known)}.")
        else:
            lines.append(f"Option '{name}' is {problem['input']!r}: {problem['msg'].lower()}.")
    return "\n".join(lines)
