"""What `run.json` says of a run: how it was made, so that it can be made again and is never mixed with another."""

from typing import Any

from hydrometer.artifacts import SCHEMA_VERSION
from hydrometer.diagnosis.setup import Instruments
from hydrometer.runs.fingerprints import fingerprint_questions
from hydrometer.runs.provenance import describe_models, describe_versions


def describe_run(instruments: Instruments) -> dict[str, Any]:
    """Identity of a run: what has to be equal for `--resume`, and under which versions it was made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "diagnosis",
        "config": instruments.config.model_dump(mode="json"),
        "seed": instruments.config.seed,
        "task": instruments.task.name,
        "task_fingerprint": _fingerprint_questions(instruments),
        "models": describe_models(instruments.models),
        "teachers": {teacher.name: {"context": str(teacher.context)} for teacher in instruments.teachers},
        "prompts": instruments.prompts.describe(),
        "objectives": {objective.name: objective.direction_key for objective in instruments.objectives},
        "given": None if instruments.given is None else instruments.given.describe(),
        "device": instruments.config.device,
        "versions": describe_versions(),
    }


def _fingerprint_questions(instruments: Instruments) -> str:
    config = instruments.config
    return fingerprint_questions(instruments.questions(), wanted=config.questions, has_pilot=bool(config.pilot))
