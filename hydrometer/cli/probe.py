"""`hydrometer probe KIND`: the options and the call; `probe_screen` prints what was found."""

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from hydrometer.probes.config import AggregationConfig, ContinuationConfig, PatternConfig, PrefixConfig, ProbeConfig
from hydrometer.runs.options import OptionGroup

app = App(
    name="probe",
    help="Ask before training whether a teacher can lead this student. What the numbers mean: docs/probes.md.",
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
)


class RunFlags(OptionGroup):
    """Where a probe goes, and how it tells."""

    out: Path | None = None
    """Run folder; has to be new or empty. Default: nothing is written."""
    resume: bool = False
    """Go on with the probe in --out."""
    config: Path | None = None
    """TOML file with any of these options; flags win over it."""
    json_: Annotated[bool, Parameter(name="--json")] = False
    """Print one object on stdout; everything else goes to stderr."""
    quiet: bool = False
    """Plain lines without a progress display."""


@app.command
def prefix(
    *,
    settings: Annotated[PrefixConfig, Parameter(name="*")] = PrefixConfig(),  # noqa: B008 - frozen
    flags: Annotated[RunFlags, Parameter(name="*")] = RunFlags(),  # noqa: B008 - frozen
) -> None:
    """Is the teacher still right where it has to go on from what the student wrote?"""
    _run(settings, flags)


@app.command
def continuation(
    *,
    settings: Annotated[ContinuationConfig, Parameter(name="*")] = ContinuationConfig(),  # noqa: B008 - frozen
    flags: Annotated[RunFlags, Parameter(name="*")] = RunFlags(),  # noqa: B008 - frozen
) -> None:
    """What does the teacher gain by taking over from the student, at which depth?"""
    _run(settings, flags)


@app.command
def aggregation(
    *,
    settings: Annotated[AggregationConfig, Parameter(name="*")] = AggregationConfig(),  # noqa: B008 - frozen
    flags: Annotated[RunFlags, Parameter(name="*")] = RunFlags(),  # noqa: B008 - frozen
) -> None:
    """What can a teacher with a context never teach, because the student does not see it?"""
    _run(settings, flags)


@app.command
def pattern(
    *,
    settings: Annotated[PatternConfig, Parameter(name="*")] = PatternConfig(),  # noqa: B008 - frozen
    flags: Annotated[RunFlags, Parameter(name="*")] = RunFlags(),  # noqa: B008 - frozen
) -> None:
    """Do student and teacher write alike, and does the teacher solve what the student does not?"""
    _run(settings, flags)


def _run(settings: ProbeConfig, flags: RunFlags) -> None:
    from rich.console import Console

    from hydrometer.cli.probe_screen import print_probe
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.probes.run import run_probe
    from hydrometer.probes.setup import build_bench

    silence_loading_bars()
    bench = build_bench(settings)
    with build_progress(quiet=flags.quiet) as progress:
        result = run_probe(bench, flags.out, resume=flags.resume, progress=progress)
    print_probe(result, Console(stderr=flags.json_, highlight=False, emoji=False, markup=False))
    if flags.json_:
        sys.stdout.write(json_format.dumps(result.summary, allow_nan=False) + "\n")
