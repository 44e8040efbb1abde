"""The check of models, templates and sampler that a diagnosis makes before its first rollout."""

from pathlib import Path
from typing import Any

from hydrometer.diagnosis.setup import Instruments
from hydrometer.preflight.before_run import check_subjects, probe_prompts, read_recorded
from hydrometer.preflight.load import distinct_teachers
from hydrometer.preflight.subjects import Subjects, default_probe_tokens
from hydrometer.runs.progress import Progress


def check_before_run(instruments: Instruments, out: Path, *, resume: bool, progress: Progress) -> dict[str, Any] | None:
    """The entry `preflight` of run.json: made now, or the recorded one where the run in `out` has nothing left to ask.

    Raises:
        UserError: see `check_instruments`.
    """
    recorded = read_recorded(out, resume=resume)
    return check_instruments(instruments, progress) if recorded is None else recorded.get("preflight")


def check_instruments(instruments: Instruments, progress: Progress) -> dict[str, Any] | None:
    """Check what a run is made with.

    Raises:
        UserError: see `check_subjects`.
    """
    config = instruments.config
    subjects = Subjects(
        instruments.student,
        instruments.sampler,
        distinct_teachers(instruments.student, {teacher.name: teacher.model for teacher in instruments.teachers}),
        probe_prompts(instruments.questions()),
        instruments.scored_objectives,
        instruments.warp,
        config.dtype,
        config.seed,
        min(default_probe_tokens(instruments.student), config.max_response_tokens),
    )
    return check_subjects(subjects, progress)
