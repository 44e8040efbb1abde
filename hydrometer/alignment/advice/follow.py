"""The advice of a finished diagnosis, read back for a trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hydrometer.alignment.advice.export import agreed_advice
from hydrometer.alignment.advice.rule import FEATURES, Rule
from hydrometer.artifacts import read_json
from hydrometer.errors import RunFolderError, SpecError


class Advice(NamedTuple):
    """What a diagnosis advises."""

    by_prefix: Mapping[str, Mapping[tuple[int, ...], float]]
    """question_id -> prefix of a response -> weight of the token that follows."""
    rule: Rule | None
    """Of the other tokens; None where the diagnosis does not advise following it."""


def read_advice(folder: Path) -> Advice:
    """The advice of a run.

    Raises:
        RunFolderError: a file is missing, damaged, or of an older version.
        SpecError: the run advises nothing.
    """
    entry = read_json(folder / "summary.json")["analyses"].get("advice")
    if entry is None or ("rule" in entry and "covariance" not in entry["rule"]):
        raise RunFolderError(
            f"{folder} holds no advice that can be followed: an older version wrote it. Diagnose again."
        )
    if not entry["advised"]:
        raise SpecError(f"{folder} advises no choice of tokens: {entry['sentence']}")
    by_prefix: dict[str, dict[tuple[int, ...], float]] = {}
    for row in agreed_advice(folder).iter_rows(named=True):
        by_prefix.setdefault(row["question_id"], {})[tuple(row["prefix_ids"])] = row["weight"]
    return Advice(by_prefix, _rule(entry["rule"]))


def _rule(entry: Mapping[str, Any]) -> Rule:
    if tuple(entry["features"]) != FEATURES:
        raise RunFolderError(f"The rule of this diagnosis uses other features ({', '.join(entry['features'])}).")
    scale = [np.inf if value is None else value for value in entry["scale"]]
    coefficients = [entry["intercept"], *entry["coefficients"]]
    return Rule(*(np.asarray(values, float) for values in (entry["mean"], scale, coefficients, entry["covariance"])))
