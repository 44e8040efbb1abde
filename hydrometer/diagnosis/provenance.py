"""What `run.json` says of a run: how it was made, so that it can be made again and is never mixed with another."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from hydrometer import __version__
from hydrometer.artifacts import SCHEMA_VERSION
from hydrometer.diagnosis.fingerprints import fingerprint_questions
from hydrometer.diagnosis.rounds import Cost
from hydrometer.diagnosis.setup import Instruments
from hydrometer.errors import RunFolderError
from hydrometer.runs.options import RUNTIME_FIELDS

Status = Literal["running", "interrupted", "failed", "done"]


def describe_run(instruments: Instruments) -> dict[str, Any]:
    """Identity of a run: what has to be equal for `--resume`, and under which versions it was made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "diagnosis",
        "config": instruments.config.model_dump(mode="json"),
        "seed": instruments.config.seed,
        "task": instruments.task.name,
        "task_fingerprint": _fingerprint_questions(instruments),
        "models": {
            name: {
                "spec": model.spec,
                "fingerprint": model.fingerprint,
                "parameters": model.parameters,
                "vocab_size": model.vocab_size,
            }
            for name, model in instruments.models.items()
        },
        "teachers": {teacher.name: {"context": str(teacher.context)} for teacher in instruments.teachers},
        "prompts": instruments.prompts.describe(),
        "objectives": {objective.name: objective.direction_key for objective in instruments.objectives},
        "given": None if instruments.given is None else instruments.given.describe(),
        "device": instruments.config.device,
        "versions": {
            "hydrometer": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "transformers", "numpy", "polars")},
        },
    }


def _fingerprint_questions(instruments: Instruments) -> str:
    config = instruments.config
    return fingerprint_questions(instruments.questions(), wanted=config.questions, has_pilot=bool(config.pilot))


def check_same_run(recorded: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume a run that was made from something else.

    Raises:
        RunFolderError: another schema, config, task or model; the differing entries are listed.
    """
    differing = []
    if recorded.get("schema_version") != identity["schema_version"] or recorded.get("kind") != identity["kind"]:
        found = f"{recorded.get('kind')} of schema {recorded.get('schema_version')}"
        differing.append(f"  run folder: {found}, now {identity['kind']} of schema {identity['schema_version']}")
    before, now = recorded.get("config", {}), identity["config"]
    for name in sorted({*before, *now} - RUNTIME_FIELDS):
        if before.get(name) != now.get(name):
            differing.append(f"  {name}: was {before.get(name)!r}, now {now.get(name)!r}")
    for name, model in identity["models"].items():
        old = recorded.get("models", {}).get(name, {})
        if old.get("spec") == model["spec"] and old.get("fingerprint") != model["fingerprint"]:
            differing.append(f"  model '{name}' ({model['spec']}): its files have changed")
    shown, shows = recorded.get("prompts", {}), identity["prompts"]
    for name in sorted(shows):
        if shown.get(name) != shows[name] and not any(line.startswith(f"  {name}:") for line in differing):
            differing.append(f"  {name}: its text has changed")
    for entry in ("teachers", "objectives"):
        old = recorded.get(entry, {})
        for name, made in identity[entry].items():
            if name in old and old[name] != made:
                differing.append(f"  {entry[:-1]} '{name}': was {old[name]!r:.200}, now {made!r:.200}")
    given, gives = recorded.get("given"), identity["given"]
    if given is not None and gives is not None and given["fingerprint"] != gives["fingerprint"]:
        differing.append(f"  {gives['source']}: its rollouts have changed")
    same_choice = all(before.get(name) == now.get(name) for name in ("task", "questions", "pilot"))
    if same_choice and recorded.get("task_fingerprint") != identity["task_fingerprint"]:
        differing.append(f"  task '{identity['task']}': its questions have changed")
    if differing:
        shown = "\n".join(differing[:7])
        raise RunFolderError(f"{path} was made by another run, so it cannot be resumed with these options:\n{shown}")


def describe_cost(cost: Cost) -> dict[str, Any]:
    """The `cost` entry of run.json and summary.json."""
    return asdict(cost) | {"wall_s": round(cost.wall_s, 1)}
