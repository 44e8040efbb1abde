"""The command line, checkpoints and task file of tests/cli, and a finished run."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("cli",)]

from command_line import checkpoints, run, workplace  # noqa: E402
from tiny_runs import QUESTIONS, TINY, write_rows  # noqa: E402

from hydrometer.cli.main import run_command  # noqa: E402

__all__ = ["checkpoints", "run", "workplace"]


@pytest.fixture(scope="session")
def done(checkpoints: Path) -> Path:
    """A run of a second whose files are there to be copied."""
    write_rows(checkpoints / "questions.jsonl", QUESTIONS)
    before = Path.cwd()
    os.chdir(checkpoints)
    try:
        assert run_command(["diagnose", *TINY, "--teacher", "self+answer", "--no-check", "--out", "done"]) == 0
    finally:
        os.chdir(before)
    return checkpoints / "done"


@pytest.fixture
def finished(done: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(done, tmp_path / "finished"))
