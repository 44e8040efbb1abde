"""Everything that decides a check. Each field is a flag of `hydrometer check`."""

from pydantic import Field

from hydrometer.runs.options import MachineOptions, OptionGroup, PromptingOptions, Specs, WarpOptions


class ProbeOptions(OptionGroup):
    """What the models are asked."""

    task: str | None = None
    """Task whose first questions are asked. Default: plain questions, or bundled:chain for a bundled student."""
    prompt: str | None = None
    """One question to ask instead of a task's."""
    objective: Specs = ()
    """An objective to check beside the usual ones. Repeat the flag for more."""
    probe_tokens: int | None = Field(default=None, ge=1)
    """Length limit of the few probe responses. Default: 96 for small models, 32 for others."""


class CheckConfig(MachineOptions, PromptingOptions, WarpOptions, ProbeOptions):
    """One check. The groups follow one another from the last to the first."""
