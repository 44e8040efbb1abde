"""`hydrometer recipe`: the recipes that come with the package, or one of your own."""

import json as json_format
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.closing import print_report
from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError
from hydrometer.evaluation.wording import percent, points

_WIDTH = 60
"""Characters of a candidate that are shown."""


def recipe(
    name: str | None = None,
    /,
    *,
    change: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    out: Path | None = None,
    resume: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Run a recipe: several commands, one after another, that rescue or compare a training.

    Without a name: a list of the recipes.

    Args:
        name: A recipe's name, or a TOML file of your own.
        change: An option of the recipe as NAME=VALUE. Repeat the flag for more.
        out: Folder; has to be new or empty. Default: runs/NAME-DATE-TIME.
        resume: Go on with the recipe in --out.
        json: Print one object on stdout; everything else goes to stderr.
        quiet: Plain lines without a progress display.
    """
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.recipes.runner import known_recipes, read_recipe, run_recipe

    screen = Console(stderr=json, highlight=False, emoji=False, markup=False)
    if name is None:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        for known in known_recipes():
            table.add_row(known, Text(read_recipe(known).summary))
        screen.print(table)
        screen.print("Run one with: hydrometer recipe NAME")
        return
    if resume and out is None:
        raise SpecError("--resume goes on with a recipe that was begun: name its folder with --out DIR")
    found = read_recipe(name)
    silence_loading_bars()
    folder = out or Path("runs") / f"{found.name}-{datetime.now():%Y-%m-%d-%H%M%S}"  # noqa: DTZ005 - the user's own clock
    with build_progress(quiet=quiet) as progress:
        result = run_recipe(found, folder, _read_changes(change), resume=resume, progress=progress)
    _print(result, folder, screen)
    if json:
        sys.stdout.write(json_format.dumps(result, allow_nan=False) + "\n")


def _read_changes(texts: tuple[str, ...]) -> dict[str, str]:
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise SpecError(f"--set '{text}': expected NAME=VALUE.")
        changes[name.strip()] = value
    return changes


def _print(result: Mapping[str, Any], folder: Path, screen: Console) -> None:
    def say(text: str) -> None:
        screen.print(Text(printable(text)))

    say(f"\n{result['recipe']}: {result['summary']}")
    for name, stage in result["stages"].items():
        if "choice" in stage:
            _print_choice(name, stage, say)
        elif "kept" in stage:
            say(f"  {name:<14} {stage['kept']} of {stage['written']} answers kept")
        elif "accuracy" in stage:
            say(f"  {name:<14} accuracy {percent(stage['accuracy'])}")
        elif stage["before"] is not None:
            before, after = stage["before"]["accuracy"], stage["after"]["accuracy"]
            say(f"  {name:<14} accuracy {100 * before['value']:.1f} % -> {percent(after)}")
    for pair in result["compare"]:
        difference = points(pair["difference"])
        say(f"  {pair['first']} minus {pair['second']}: {difference} (paired by question)")
    print_report(folder, screen)


def _print_choice(name: str, stage: Mapping[str, Any], say: Callable[[str], None]) -> None:
    for number, candidate in enumerate(stage["candidates"], start=1):
        found = candidate[stage["measure"]]
        interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
        shown = repr(candidate["value"])
        said = f"{stage['measure'].replace('_', ' ')} {found['value']:.3f}{interval}"
        say(f"  {name:<14} {number}. {said}  {shown if len(shown) <= _WIDTH else shown[:_WIDTH] + '...'}")
    say(f"  {'':<14} {stage['sentence']}")
