"""`hydrometer train`: the options, the run, and before against after on one screen."""

import json as json_format
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from hydrometer.cli.closing import print_report, told_of_cache
from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError
from hydrometer.evaluation.wording import percent, points
from hydrometer.training.config import TrainConfig

if TYPE_CHECKING:
    from hydrometer.results import Training

_SHOWN = ("reverse_kl", "overlap_ratio", "entropy_gap", "student_entropy", "repeat_ratio", "response_tokens_mean")
"""Metrics that are told of the first and the last step."""
_SHOWN_ALARMS = 5


def train(
    *,
    settings: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(),  # noqa: B008 - frozen
    out: Path | None = None,
    resume: bool = False,
    no_check: bool = False,
    config: Path | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Distil into a student, and see why it works or fails.

    Without options: the bundled student learns from the bundled expert. Several processes: accelerate launch -m
    hydrometer train ... Metrics are explained in docs/metrics.md.

    Args:
        settings: Who learns what from whom.
        out: Run folder; has to be new or empty. Default: runs/DATE-TIME.
        resume: Go on with the run in --out from its last checkpoint.
        no_check: Skip the check of models, templates and sampler that comes first (see hydrometer check).
        config: TOML file with any of these options; flags win over it.
        json: Print one object on stdout; everything else goes to stderr.
        quiet: Plain lines without a progress display.
    """
    del config  # read before parsing, see cli.main
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.training.run import run_training
    from hydrometer.training.setup import build_workshop

    if resume and out is None:
        raise SpecError("--resume goes on with a run that is there: name its folder with --out DIR")
    screen = Console(stderr=json, highlight=False, emoji=False, markup=False)
    silence_loading_bars()
    shop = build_workshop(settings)
    folder = out or Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}"  # noqa: DTZ005 - the user's own clock
    with build_progress(quiet=quiet) as progress:
        progress.note(f"Run folder: {folder}")
        for term in shop.settings.terms.all:
            if term.objective.caution:
                progress.note(f"Objective {term.objective.name}: {term.objective.caution}")
        result = run_training(shop, folder, resume=resume, check=not no_check, progress=progress)
    if not result.summary:
        return  # another process of the same run tells it
    print_training(result, screen)
    if json:
        told = {"out": str(result.folder), "steps": result.summary["steps"], "metrics": result.summary["last_metrics"]}
        sys.stdout.write(json_format.dumps(told | {"summary": result.summary}, allow_nan=False) + "\n")


def print_training(result: "Training", screen: Console) -> None:
    """Accuracy before and after, a few dynamics, alarms by name, and where the model is: within a screen."""
    summary = result.summary

    def say(text: str) -> None:
        screen.print(Text(printable(text)))

    say(
        f"\n{summary['student']} after {summary['steps']:,} steps of {', '.join(summary['objectives'])}"
        + (f" with {', '.join(summary['teachers'])}" if summary["teachers"] else "")
    )
    if summary["before"] is not None:
        say(
            f"{summary['task']}, split {summary['split']}: {summary['questions']} questions, {summary['samples']} "
            "responses each"
        )
        for name in ("before", "after"):
            say(f"  accuracy {name:<6}  {percent(summary[name]['accuracy'])}")
        if summary["comparison"] is not None:
            say(f"  difference       {points(summary['comparison']['difference'])}")
    rows = result.metrics.to_dicts() if summary["steps"] else []
    for name in _SHOWN:
        if rows and rows[0].get(name) is not None and rows[-1].get(name) is not None:
            say(f"  {name:<22} {rows[0][name]:.3f} -> {rows[-1][name]:.3f}")
    for alarm in summary["alarms"][:_SHOWN_ALARMS]:
        # a run that an older version began does not say
        seen = f", seen in {', '.join(alarm['metrics'])}" if "metrics" in alarm else ""
        say(f"Alarm at step {alarm['step']:,}: {alarm['name']}{seen}")
    if summary["alarms"]:
        more = len(summary["alarms"]) - _SHOWN_ALARMS
        say(f"In the report: {f'{more} more alarms, ' if more > 0 else ''}what alarms mean, and what to do.")
    cost = summary["cost"]
    say(
        f"Cost: {cost['rollouts']:,} rollouts, {cost['generated_tokens']:,} generated and {cost['scored_tokens']:,} "
        f"scored tokens{told_of_cache(cost)}, {cost['wall_s']:.0f} s."
    )
    kept = next(name for name in ("adapter", "model") if (result.folder / name).is_dir())
    screen.print(Text(printable(f"Trained {kept}: {result.folder / kept}")), soft_wrap=True)
    print_report(result.folder, screen)
