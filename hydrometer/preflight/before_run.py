"""The check of models, templates and sampler that a run makes before its first rollout."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydrometer.artifacts import read_json
from hydrometer.errors import RunFolderError
from hydrometer.models import uncached
from hydrometer.preflight.findings import Preflight, refuse_red
from hydrometer.preflight.inspect import inspect
from hydrometer.preflight.subjects import Subjects
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.progress import Progress
from hydrometer.types import Message, Question

_PROMPTS = 4


def read_recorded(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """run.json of a finished run that is asked to go on, which has nothing left to check; else None."""
    if resume and (out / "run.json").is_file():
        with suppress(RunFolderError):  # a damaged run.json is rebuilt, so nothing is known of the run yet
            recorded = read_json(out / "run.json")
            if recorded.get("status") == "done":
                return recorded
    return None


def probe_prompts(questions: Sequence[Question]) -> tuple[tuple[Message, ...], ...]:
    """The prompts of a few questions of the run."""
    return tuple(question.prompt for question in questions[:_PROMPTS])


def check_subjects(subjects: Subjects, progress: Progress) -> dict[str, Any] | None:
    """Check what a run is made with; returns the entry `preflight` of run.json (None where there is no question).

    The probe samples are drawn with the run's own sampler and are part of no table. A resumed run is checked again: the
    machine, the device and the batch size may have changed. Nothing is taken from a score cache.

    Raises:
        PreflightError: something would make a number wrong.
        MemoryLimitError: the models do not fit.
    """
    if not subjects.prompts:
        return None
    teachers = {name: uncached(model) for name, model in subjects.teachers.items()}
    asked = replace(subjects, student=uncached(subjects.student), teachers=teachers)
    with explain_memory("Lower --batch-size, or try --dtype bfloat16."):
        found = inspect(asked)
    refuse_red(
        found.findings, "Nothing was sampled for the run. `hydrometer check` tells more; --no-check runs it anyway."
    )
    progress.note(_sentence(found))
    return found.as_json()


def _sentence(found: Preflight) -> str:
    """One line: how many checks, and which say something."""
    notes = found.of_level("note")
    count = len(found.findings)
    if not notes:
        return f"Check of models and sampler: all {count} green."
    by_check: dict[str, list[str]] = {}
    for note in notes:
        by_check.setdefault(note.check, []).append(note.model)
    listed = "; ".join(f"{check} ({', '.join(models)})" for check, models in by_check.items())
    return f"Check of models and sampler: nothing wrong in {count} points. Notes, told in run.json: {listed}."
