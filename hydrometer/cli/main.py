"""`hydrometer`: parse, call, print. A command's code is imported when it runs, so that `--help` is quick.

Exit codes: 0 done, 2 user error (one message on stderr), 130 interrupted (resumable), 1 bug (traceback).
"""

import io
import json
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console

from hydrometer import __version__
from hydrometer.cli.printable import printable
from hydrometer.errors import SpecError, UserError
from hydrometer.inputs import read_plain_text

app = App(
    name="hydrometer",
    help="Find out which teacher, context and objective help before paying for on-policy distillation; then train.",
    version=__version__,
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command(
    "hydrometer.cli.diagnose:diagnose",
    name="diagnose",
    help="Rank teachers, contexts and objectives for a student, without training.",
)
app.command(
    "hydrometer.cli.train:train",
    name="train",
    help="Distil into a student, and see why it works or fails.",
)
app.command("hydrometer.cli.recipe:recipe", name="recipe", help="Run a recipe that rescues or compares a training.")
app.command(
    "hydrometer.cli.evaluate:evaluate",
    name="evaluate",
    help="Measure how often a model is right, with intervals; compare it with another.",
)
app.command(
    "hydrometer.cli.probe:app",
    name="probe",
    help="Ask before training whether a teacher can lead this student.",
)
app.command(
    "hydrometer.cli.check:check",
    name="check",
    help="Look for mistakes in student, teachers, templates and sampler before a run is paid for.",
)
app.command(
    "hydrometer.cli.report:report",
    name="report",
    help="Rebuild report.html of run folders from their files; compare several runs.",
)
app.command(
    "hydrometer.cli.advice:advice",
    name="advice",
    help="What a run advises to train on, and its export for trainers.",
)
app.command("hydrometer.cli.models:models", name="models", help="The bundled family and what was measured of it.")


_READER_LEFT = 128 + 13
"""As a shell tells of a process that SIGPIPE ended."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command `hydrometer`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end a run the same way
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character still gets the rest
    try:
        code = run_command(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has left, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _READER_LEFT
    sys.exit(code)


def run_command(tokens: list[str]) -> int:
    """Run one command line and return its exit code; bugs are raised."""
    errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        _refuse_missing_cwd()
        _refuse_deep_json(tokens)
        _read_config_file(tokens)
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except cyclopts.CycloptsError as error:
        errors.print(printable(f"hydrometer: {_explain(error)}"))
        return 2
    except UserError as error:
        errors.print(printable(f"hydrometer: {error}"))
        return 2
    except KeyboardInterrupt:
        kept = " What is finished is kept; go on with --resume and the same --out." if _keeps_rounds(tokens) else ""
        errors.print(f"hydrometer: interrupted.{kept}")
        return 130
    return 0


def _keeps_rounds(tokens: Sequence[str]) -> bool:
    """Whether a command leaves a run folder that can be resumed."""
    match tokens[:1]:
        case ["diagnose"]:
            return "--dry-run" not in tokens
        case ["train" | "recipe"]:
            return True
        case ["evaluate" | "probe"]:
            return any(token.partition("=")[0] in ("--out", "--config") for token in tokens)
    return False


def _refuse_missing_cwd() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"The current directory cannot be used ({error.strerror}); it may have been deleted. Change to another one."
        ) from error


def _refuse_deep_json(tokens: Sequence[str]) -> None:
    """The parser reads values that begin like JSON, and nesting without end would end it."""
    for token in tokens:
        value = token.partition("=")[2] if token.startswith("--") else token
        if value.lstrip()[:1] in ("{", "["):
            try:
                json.loads(value)
            except ValueError:
                continue  # told by who asked for the value
            except RecursionError as error:
                raise SpecError(f"'{token[:60]}...' is nested too deeply to be read.") from error


def _read_config_file(tokens: Sequence[str]) -> None:
    """Let `--config FILE` supply the options that the command line does not."""
    app.config = ()
    given = [token.partition("=")[2] for token in tokens if token.startswith("--config=")]
    given += [after for token, after in pairwise(tokens) if token == "--config"]
    if not given:
        return
    path = Path(given[-1])
    try:
        options = tomllib.loads(read_plain_text(path))
    except FileNotFoundError as error:
        raise SpecError(f"--config {path}: there is no such file.") from error
    except (ValueError, RecursionError, OSError) as error:  # ValueError: also text that is not UTF-8, endless numbers
        raise SpecError(f"--config {path} is not readable TOML: {error}.") from error
    sections = [name for name, value in options.items() if isinstance(value, dict)]
    if sections:
        raise SpecError(f"--config {path}: '{sections[0]}' is a section; options stand at the top level of the file.")
    if "config" in options:
        raise SpecError(f"--config {path}: a file of options cannot name another one; put all options into one file.")
    app.config = (cyclopts.config.Toml(path, use_commands_as_keys=False),)


def _explain(error: cyclopts.CycloptsError) -> str:
    from pydantic import ValidationError

    from hydrometer.runs.options import explain_invalid

    if isinstance(error.__cause__, ValidationError):
        return explain_invalid(error.__cause__)
    if isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        return f"Unexpected argument '{error.unused_tokens[0]}'. Options begin with --, see hydrometer COMMAND --help"
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
