"""`hydrometer diagnose`: the options, the run, and a summary that fits one screen."""

import json as json_format
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.errors import SpecError


def diagnose(
    *,
    settings: Annotated[DiagnoseConfig, Parameter(name="*")] = DiagnoseConfig(),  # noqa: B008 - frozen
    out: Path | None = None,
    resume: bool = False,
    no_check: bool = False,
    dry_run: bool = False,
    profile: bool = False,
    config: Path | None = None,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Rank teachers, contexts and objectives for a student, without training.

    Without options: the bundled student against the bundled teachers and contexts.

    Args:
        settings: What to diagnose.
        out: Run folder; has to be new or empty. Default: runs/DATE-TIME.
        resume: Go on with the run in --out.
        no_check: Skip the check of models, templates and sampler that comes first (see hydrometer check).
        dry_run: Print the expected tokens, time and memory, and stop.
        profile: Print where the time went, by stage, and how much of it inside the models.
        config: TOML file with any of these options; flags win over it.
        json: Print summary.json on stdout; everything else goes to stderr.
        quiet: Plain lines without a progress display.
    """
    del config  # read before parsing, see cli.main
    from hydrometer.cli.profile import print_profile
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.cli.summary import print_plan, print_summary
    from hydrometer.diagnosis.plan import plan_run
    from hydrometer.diagnosis.run import run_diagnosis
    from hydrometer.diagnosis.setup import build_instruments
    from hydrometer.models.transformers_model import TransformersModel
    from hydrometer.runs.stopwatch import time_forward_passes

    if resume and out is None:
        raise SpecError("--resume goes on with a run that is there: name its folder with --out DIR")
    screen = Console(stderr=json, highlight=False, emoji=False)
    silence_loading_bars()
    instruments = build_instruments(settings)
    if dry_run:
        plan = plan_run(instruments)
        print_plan(plan, screen)
        if json:
            sys.stdout.write(json_format.dumps(plan._asdict()) + "\n")
        return
    folder = out or Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}"  # noqa: DTZ005 - the user's own clock
    models = instruments.models.values() if profile else ()
    timed = [model.network for model in models if isinstance(model, TransformersModel)]
    with build_progress(quiet=quiet) as progress, time_forward_passes(timed) as watch:
        progress.note(f"Run folder: {folder}")
        result = run_diagnosis(instruments, folder, resume=resume, check=not no_check, progress=progress)
    print_summary(result, screen)
    if profile:
        print_profile(result.stages, watch, screen)
    if json:
        sys.stdout.write(json_format.dumps(result.summary, allow_nan=False) + "\n")
