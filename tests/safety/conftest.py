"""The tiny checkpoints and runs of the other tests, and a command line whose every word is looked at."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("cli",)]

from bigram_checkpoint import GOOD, STUDENT, write_checkpoint  # noqa: E402
from tiny_runs import QUESTIONS, TINY, Command, Said, write_rows  # noqa: E402

from hydrometer.cli.main import run_command  # noqa: E402


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `student` and `good`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(folder / "student", STUDENT)
    write_checkpoint(folder / "good", GOOD)
    return folder


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


@pytest.fixture
def workplace(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with `student`, `good` and `questions.jsonl` in it."""
    for name in ("student", "good"):
        (tmp_path / name).symlink_to(checkpoints / name)
    write_rows(tmp_path / "questions.jsonl", QUESTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """`hydrometer ARGUMENTS`; what is said is short, without a traceback, and harmless to a terminal."""

    def run(arguments: Sequence[str]) -> Said:
        capsys.readouterr()
        said = Said(run_command(list(arguments)), *capsys.readouterr())
        assert "Traceback" not in said.err
        if said.code == 2:
            assert 1 <= len(said.err[said.err.index("hydrometer: ") :].splitlines()) <= 10
        return said

    return run
