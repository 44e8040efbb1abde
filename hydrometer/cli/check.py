"""`hydrometer check`: the models asked, one line per check, exit code 2 where anything is red."""

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError
from hydrometer.types import STUDENT

if TYPE_CHECKING:
    from hydrometer.preflight import Preflight

_STYLES = {"green": "green", "note": "yellow", "red": "bold red"}


def check(
    student: str,
    /,
    *teachers: str,
    task: str | None = None,
    prompt: str | None = None,
    objective: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    temperature: float = 1.0,
    top_p: float = 1.0,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "cpu",
    probe_tokens: int | None = None,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Look for mistakes in student, teachers, templates and sampler before a run is paid for.

    Exit code 2 where anything is red: it would make a number wrong. Every check stands in docs/check.md.

    Args:
        student: Model spec: a Hugging Face id or folder, or bundled:NAME.
        teachers: Model specs, each as [NAME=]MODEL.
        task: Task whose first questions are asked. Default: plain questions, or bundled:chain for a bundled student.
        prompt: One question to ask instead of a task's.
        objective: An objective to check beside the usual ones. Repeat the flag for more.
        temperature: Sampling temperature; applied to teachers too.
        top_p: Nucleus of the student's sampling distribution.
        dtype: Of weights and forward passes.
        device: Where the models run, e.g. cpu, cuda.
        probe_tokens: Length limit of the few probe responses. Default: 96 for small models, 32 for others.
        seed: Of the probe responses.
        json: Print one object with all findings on stdout.
        quiet: Print notes and red lines only.
    """
    from hydrometer.cli.quiet_loading import silence_loading_bars
    from hydrometer.diagnosis.memory import explain_memory
    from hydrometer.models import Warp
    from hydrometer.preflight import LoadOptions, build_subjects, inspect, refuse_red

    if not temperature > 0 or not 0 < top_p <= 1:
        raise SpecError(
            f"--temperature {temperature:g} --top-p {top_p:g}: expected temperature > 0 and 0 < top-p <= 1."
        )
    if probe_tokens is not None and probe_tokens < 1:
        raise SpecError(f"--probe-tokens {probe_tokens}: at least 1 token is needed.")
    if task is not None and prompt is not None:
        raise SpecError("--task and --prompt both say what to ask; give one of them.")
    silence_loading_bars()
    warp = Warp(temperature, top_p)
    options = LoadOptions(task, prompt, objective, warp, dtype, device, probe_tokens, seed)
    with explain_memory("Try --dtype bfloat16 or smaller models."):
        found = inspect(build_subjects(student, teachers, options))
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
