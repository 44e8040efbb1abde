"""A recipe: stages that are commands of this package, one after another, each in a folder of its own.

A recipe is a TOML file. `[options]` are names that a user may change (`--set student=...`); `[[stage]]` has a `name`,
what to `run` (choose, collect, dedup, train, evaluate) and that command's own options, in which `$option` stands for an
option and `$stage` for the folder of an earlier stage (of one that runs choose: for what it chose); `[[compare]]` names
two stages whose last evaluations are compared question by question.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import polars as pl
from pydantic import ValidationError

from hydrometer.artifacts import read_table, write_json
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.evaluation.config import EvaluateConfig
from hydrometer.evaluation.run import run_evaluation
from hydrometer.evaluation.setup import build_examination
from hydrometer.evaluation.summary import describe_comparison
from hydrometer.inputs import read_plain_text
from hydrometer.recipes.choosing import choose_option
from hydrometer.recipes.collecting import collect_answers
from hydrometer.recipes.dedup import deduplicate_rows
from hydrometer.report import end_with_report
from hydrometer.runs.options import explain_invalid
from hydrometer.runs.progress import Progress
from hydrometer.training.config import TrainConfig
from hydrometer.training.run import run_training
from hydrometer.training.setup import build_workshop

BOOK = Path(__file__).parent / "book"
"""The recipes that come with the package: one folder each, with recipe.toml and README.md."""
Json = dict[str, Any]
_OWN = ("name", "run")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe that was read."""

    name: str
    summary: str
    options: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    compare: tuple[Mapping[str, str], ...]


def known_recipes() -> list[str]:
    """Names of those that come with the package."""
    return sorted(path.parent.name for path in BOOK.glob("*/recipe.toml"))


def read_recipe(text: str) -> Recipe:
    """A recipe by name, or from a file of one's own.

    Raises:
        UnknownNameError: neither a file nor a known name.
        SpecError: the file is no recipe.
    """
    path = Path(text) if text.endswith(".toml") else BOOK / text / "recipe.toml"
    if not path.is_file():
        raise UnknownNameError("recipe", text, known_recipes())
    try:
        found = tomllib.loads(read_plain_text(path))
        recipe = Recipe(
            path.parent.name if path.name == "recipe.toml" else path.stem,
            found["summary"],
            found.get("options", {}),
            tuple(found["stage"]),
            tuple(found.get("compare", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError(f"{path} is no recipe ({error}); it needs a summary and [[stage]] tables.") from error
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    names: list[str] = []
    for stage in recipe.stages:
        name, run = stage.get("name"), stage.get("run")
        if not isinstance(name, str) or not name.isidentifier() or name in names or name in recipe.options:
            raise SpecError(f"{path}: every stage needs a name of its own, made of letters; found {name!r}.")
        if run not in STAGES:
            raise SpecError(f"{path}: stage '{name}' runs {run!r}; known are {', '.join(STAGES)}.")
        names.append(name)
    for pair in recipe.compare:
        for side in ("first", "second"):
            if pair.get(side) not in names:
                raise SpecError(f"{path}: compare names {pair.get(side)!r}, which is no stage.")


def run_recipe(recipe: Recipe, out: Path, changed: Mapping[str, str], *, resume: bool, progress: Progress) -> Json:
    """Run every stage, or go on where it stopped; what each found, and the comparisons.

    Raises:
        UnknownNameError: an option that the recipe does not have.
        UserError: see the commands that its stages run.
    """
    for name in changed:
        if name not in recipe.options:
            raise UnknownNameError(f"option of the recipe {recipe.name}", name, recipe.options)
    if out.exists() and any(out.iterdir()) and not resume:
        raise SpecError(f"--out {out} is not empty. Choose another folder, or continue that recipe with --resume.")
    values = {**recipe.options, **changed}
    found: Json = {"recipe": recipe.name, "summary": recipe.summary, "options": values, "stages": {}, "compare": []}
    for stage in recipe.stages:
        folder = out / stage["name"]
        progress.note(f"Stage {stage['name']} ({stage['run']}): {folder}")
        options = {key: _fill(value, values, recipe.name) for key, value in stage.items() if key not in _OWN}
        try:
            found["stages"][stage["name"]] = STAGES[stage["run"]](folder, options, folder.exists(), progress)
        except ValidationError as error:
            raise SpecError(f"Recipe {recipe.name}, stage {stage['name']}:\n{explain_invalid(error)}") from error
        values[stage["name"]] = found["stages"][stage["name"]].get("choice", str(folder))
    found["compare"] = [_compare(out, pair) for pair in recipe.compare]
    write_json(out / "summary.json", found)
    end_with_report(out, progress.note)
    return found


def _fill(value: Any, values: Mapping[str, Any], recipe: str) -> Any:
    if isinstance(value, list):
        return [_fill(part, values, recipe) for part in value]
    if not isinstance(value, str):
        return value
    if value.startswith("$") and value[1:] in values:
        return values[value[1:]]  # as it is: a number stays one
    try:
        return Template(value).substitute(values)
    except (KeyError, ValueError) as error:
        raise SpecError(f"Recipe {recipe}: '{value}' names something that is not there ({error}).") from error


def _collect(folder: Path, options: Json, resume: bool, progress: Progress) -> Json:
    own = {key: options.pop(key) for key in ("mark", "only_correct") if key in options}
    return collect_answers(folder, options, **own, resume=resume, progress=progress)


def _train(folder: Path, options: Json, resume: bool, progress: Progress) -> Json:
    summary = run_training(build_workshop(TrainConfig(**options)), folder, resume=resume, progress=progress).summary
    kept = ("before", "after", "comparison", "steps", "alarms", "last_metrics", "cost")
    return {key: summary[key] for key in kept}


def _dedup(folder: Path, options: Json, resume: bool, progress: Progress) -> Json:
    unknown = sorted(set(options) - {"rows", "reference", "embedder", "threshold"})
    if unknown or not {"rows", "reference"} <= set(options):
        raise SpecError(
            f"A stage that runs dedup takes rows, reference, embedder and threshold; found {sorted(options)}."
        )
    return deduplicate_rows(folder, **options)


def _choose(folder: Path, options: Json, resume: bool, progress: Progress) -> Json:
    if not {"option", "among"} <= set(options):
        raise SpecError(f"A stage that runs choose needs option and among; found {sorted(options)}.")
    own = {key: options.pop(key) for key in ("option", "among", "measure") if key in options}
    return choose_option(folder, options, **own, progress=progress)


def _evaluate(folder: Path, options: Json, resume: bool, progress: Progress) -> Json:
    examination = build_examination(EvaluateConfig(**options))
    summary = run_evaluation(examination, folder, resume=resume, progress=progress).summary
    return {key: summary[key] for key in ("model", "accuracy", "strict_accuracy", "relaxed_accuracy", "cost")}


STAGES: Mapping[str, Callable[[Path, Json, bool, Progress], Json]] = {
    "choose": _choose,
    "collect": _collect,
    "dedup": _dedup,
    "train": _train,
    "evaluate": _evaluate,
}


def _compare(out: Path, pair: Mapping[str, str]) -> Json:
    first, second = (_last_evaluation(out / pair[side]) for side in ("first", "second"))
    return {**pair, **describe_comparison(first, second)}


def _last_evaluation(folder: Path) -> pl.DataFrame:
    table = read_table(folder / "evaluation.parquet").filter(pl.col("model") == "model")
    return table.filter(pl.col("step") == pl.col("step").max())
