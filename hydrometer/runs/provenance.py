"""What every `run.json` says of how its run was made, and what has to be equal before a run goes on."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from hydrometer.artifacts.model_identity import is_same_model
from hydrometer.errors import RunFolderError
from hydrometer.models import CausalModel
from hydrometer.runs.options import RUNTIME_FIELDS
from hydrometer.runs.rounds import Cost
from hydrometer.version import __version__

Status = Literal["running", "interrupted", "failed", "done"]
_CHOOSE_QUESTIONS = ("task", "split", "questions", "pilot")
"""Options that decide which questions a run takes; a kind of run that lacks one has none there twice."""


def describe_models(models: Mapping[str, CausalModel]) -> dict[str, dict[str, Any]]:
    """The entry `models` of run.json, by what each is in the run."""
    return {
        name: {
            "spec": model.spec,
            "fingerprint": model.fingerprint,
            "parameters": model.parameters,
            "vocab_size": model.vocab_size,
        }
        for name, model in models.items()
    }


def describe_versions() -> dict[str, str]:
    """The entry `versions` of run.json."""
    return {
        "hydrometer": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "transformers", "numpy", "polars")},
    }


def check_same_run(
    recorded: Mapping[str, Any],
    identity: Mapping[str, Any],
    path: Path,
    options: type[BaseModel],
    may_change: frozenset[str] = RUNTIME_FIELDS,
) -> None:
    """Refuse to resume a run that was made from something else.

    An option that the version of the recorded run did not have yet counts as left at its default there.

    Args:
        recorded: identity in the run folder.
        identity: of the run that is asked for.
        path: of the run folder.
        options: the config's class, for its defaults.
        may_change: options that may differ.

    Raises:
        RunFolderError: another schema, config, task or model; the differing entries are listed.
    """
    differing = []
    if recorded.get("schema_version") != identity["schema_version"] or recorded.get("kind") != identity["kind"]:
        found = f"{recorded.get('kind')} of schema {recorded.get('schema_version')}"
        differing.append(f"  run folder: {found}, now {identity['kind']} of schema {identity['schema_version']}")
    known, now = recorded.get("config", {}), identity["config"]
    before = options.model_construct().model_dump(mode="json") | known
    for name in sorted({*before, *now} - may_change):
        if before.get(name) != now.get(name):
            differing.append(f"  {name}: was {before.get(name)!r}, now {now.get(name)!r}")
    for name, model in identity["models"].items():
        old = recorded.get("models", {}).get(name, {})
        if old.get("spec") == model["spec"] and not is_same_model(old.get("fingerprint"), model["fingerprint"]):
            differing.append(f"  model '{name}' ({model['spec']}): its files have changed")
    shown, shows = recorded.get("prompts", {}), identity["prompts"]
    for name in sorted(shows):
        is_told = any(line.startswith(f"  {name}:") for line in differing)
        if (name in shown or name in known) and shown.get(name) != shows[name] and not is_told:
            differing.append(f"  {name}: its text has changed")
    for entry in ("teachers", "objectives"):
        old = recorded.get(entry, {})
        for name, made in identity.get(entry, {}).items():
            if name in old and old[name] != made:
                differing.append(f"  {entry[:-1]} '{name}': was {old[name]!r:.200}, now {made!r:.200}")
    given, gives = recorded.get("given"), identity.get("given")
    if given is not None and gives is not None and given["fingerprint"] != gives["fingerprint"]:
        differing.append(f"  {gives['source']}: its rollouts have changed")
    same_choice = all(before.get(name) == now.get(name) for name in _CHOOSE_QUESTIONS)
    if same_choice and recorded.get("task_fingerprint") != identity["task_fingerprint"]:
        differing.append(f"  task '{identity['task']}': its questions have changed")
    if differing:
        shown = "\n".join(differing[:7])
        raise RunFolderError(f"{path} was made by another run, so it cannot be resumed with these options:\n{shown}")


def describe_cost(cost: Cost) -> dict[str, Any]:
    """The `cost` entry of run.json and summary.json."""
    return asdict(cost) | {"wall_s": round(cost.wall_s, 1)}
