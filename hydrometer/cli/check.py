"""`hydrometer check`: the models asked, one line per check, exit code 2 where anything is red."""

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.printable import printable
from hydrometer.preflight.config import CheckConfig
from hydrometer.types import STUDENT

if TYPE_CHECKING:
    from hydrometer.preflight.findings import Preflight

_STYLES = {"green": "green", "note": "yellow", "red": "bold red"}


def check(
    student: str,
    /,
    *teachers: str,
    settings: Annotated[CheckConfig, Parameter(name="*")] = CheckConfig(),  # noqa: B008 - frozen
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Look for mistakes in student, teachers, templates and sampler before a run is paid for.

    Exit code 2 where anything is red: it would make a number wrong. Every check stands in docs/check.md.

    Args:
        student: Model spec: a Hugging Face id or folder, bundled:NAME, or vllm:http://HOST:PORT/v1#MODEL.
        teachers: Model specs, each as [NAME=]MODEL.
        settings: What to ask, and how.
        json: Print one object with all findings on stdout.
        quiet: Print notes and red lines only.
    """
    from hydrometer.cli.progress import build_progress
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.models import torch_threads
    from hydrometer.preflight.findings import refuse_red
    from hydrometer.preflight.inspect import inspect
    from hydrometer.preflight.load import build_subjects
    from hydrometer.runs.engines import report_outages
    from hydrometer.runs.memory import explain_memory

    silence_loading_bars()
    with torch_threads(settings.threads), explain_memory("Try --dtype bfloat16 or smaller models."):
        subjects = build_subjects(student, teachers, settings)
        with build_progress(quiet=True) as progress:
            report_outages(subjects.models.values(), progress)
            found = inspect(subjects)
    if json:
        sys.stdout.write(json_format.dumps(found.as_json(), allow_nan=False) + "\n")
    else:
        _print(found, Console(highlight=False, emoji=False, markup=False), quiet=quiet)
    refuse_red(found.findings, "Every point is told above." if not json else "Every point is told in the JSON.")


def _print(found: "Preflight", screen: Console, *, quiet: bool) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("level", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    models = list(dict.fromkeys(finding.model for finding in found.findings))
    for model in sorted(models, key=lambda name: name != STUDENT):
        findings = [f for f in found.findings if f.model == model and not (quiet and f.level == "green")]
        if not findings:
            continue
        table.add_row("", Text(printable(model), style="bold"), "")
        for finding in findings:
            text = Text(printable(finding.found))
            if finding.advice:
                text.append(f"\n{printable(finding.advice)}", style="dim")
            table.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.check, text)
    screen.print(table)
    counts = found.counts
    notes = "1 note" if counts["note"] == 1 else f"{counts['note']} notes"
    screen.print(
        f"\n{counts['green']} green, {notes}, {counts['red']} red, from {found.rollouts} probe responses "
        f"({found.generated_tokens:,} tokens)."
    )
