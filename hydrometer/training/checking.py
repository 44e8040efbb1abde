"""The check of models, templates and sampler that a training makes before its first step."""

from pathlib import Path
from typing import Any

from hydrometer.models import Warp
from hydrometer.preflight.before_run import check_subjects, probe_prompts, read_recorded
from hydrometer.preflight.load import distinct_teachers
from hydrometer.preflight.subjects import Subjects, default_probe_tokens
from hydrometer.runs.progress import Progress
from hydrometer.training.setup import Workshop


def check_before_training(shop: Workshop, out: Path, *, resume: bool, progress: Progress) -> dict[str, Any] | None:
    """The entry `preflight` of run.json: made now, or the recorded one of a finished run.

    Raises:
        UserError: see `check_subjects`.
    """
    recorded = read_recorded(out, resume=resume)
    if recorded is not None:
        return recorded.get("preflight")
    config, seats = shop.config, shop.settings.seats
    subjects = Subjects(
        shop.student,
        shop.sampler,
        distinct_teachers(shop.student, {name: seat.model for name, seat in seats.items() if not seat.is_self}),
        probe_prompts(shop.questions),
        tuple(term.objective for term in shop.settings.terms.distil if term.objective.needs == "teacher"),
        Warp(config.temperature),
        config.dtype,
        config.seed,
        min(default_probe_tokens(shop.student), config.max_response_tokens),
    )
    return check_subjects(subjects, progress)
