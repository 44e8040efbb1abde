"""What a user meets first: quick help without torch, exit codes, a traceback for bugs only."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import hydrometer
from hydrometer.cli.main import run_command
from hydrometer.cli.printable import printable


def run_process(arguments: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hydrometer.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # pyright: ignore


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["diagnose", "--help"], ["evaluate", "--help"], ["report", "--help"]]
)
def test_help_needs_no_torch(arguments: list[str]) -> None:
    script = (
        "import sys; from hydrometer.cli.main import run_command; "
        f"code = run_command({arguments!r}); "
        "heavy = {'torch', 'transformers', 'scipy', 'polars'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy & {'torch', 'transformers'} else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_is_quick() -> None:
    """At most 0.5 s of processor time (the best of a few, since the machine may be busy)."""

    def cost() -> float:
        before = os.times()
        run_process(["--help"])
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cost() for _ in range(3)) < 0.5


def test_importing_the_package_loads_no_torch() -> None:
    script = "import hydrometer, sys; sys.exit('torch' in sys.modules or not hydrometer.__version__)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_version_and_help_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.strip() == hydrometer.__version__
    assert run_command(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(command in listed for command in ("diagnose", "evaluate", "report", "models"))
    assert run_command(["diagnose", "--help"]) == 0
    listed = capsys.readouterr().out
    for option in ("--student", "--teacher", "--objective", "--task", "--questions", "--rollouts", "--paths", "--out"):
        assert option in listed
    for option in ("--resume", "--dry-run", "--config", "--json", "--quiet", "--seed", "--batch-size"):
        assert option in listed


def test_a_bug_keeps_its_traceback_and_exits_1(tmp_path: Path) -> None:
    script = (
        "import sys, hydrometer.cli.report as r, hydrometer.cli.main as m\n"
        "r.build_report = lambda folder: 1 / 0\n"
        f"m.main(['report', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_before_the_run_exits_130_without_a_traceback(sent: signal.Signals) -> None:
    script = (
        "import time, hydrometer.cli.models as c, hydrometer.cli.main as m\n"
        "c.models = lambda *, json=False: (print('ready', flush=True), time.sleep(60))\n"
        "m.main(['models'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(sent)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    assert "--resume" not in said  # there is nothing that could be resumed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text\nwith a\ttab, an umlaut \u00e4 and [red]no markup[/red]", None),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\rover", "\\rover"),
        ("\u202etxet", "\\u202etxet"),
        ("half \udcff a character", "half \\udcff a character"),
    ],
)
def test_nothing_unsafe_is_printed(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)
