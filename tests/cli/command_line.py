"""Tiny checkpoints and a task file in an empty folder, and the command line run inside the test process."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from bigram_checkpoint import GOOD, STUDENT, write_checkpoint
from tiny_runs import QUESTIONS, Command, Said, write_rows

from hydrometer.cli.main import run_command


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `student` and `good`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(folder / "student", STUDENT)
    write_checkpoint(folder / "good", GOOD)
    return folder


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
    """`hydrometer ARGUMENTS`; a user error must be short and without a traceback."""

    def run(arguments: Sequence[str]) -> Said:
        capsys.readouterr()
        code = run_command(list(arguments))
        said = Said(code, *capsys.readouterr())
        assert "Traceback" not in said.err
        if code == 2:
            message = said.err[said.err.index("hydrometer: ") :]
            assert 1 <= len(message.splitlines()) <= 10
        return said

    return run


def assert_refused(run: Command, line: str, words: str, workplace: Path) -> None:
    """A user error that quotes `words`, with nothing on stdout and nothing left behind."""
    before = set(workplace.iterdir())
    said = run(shlex.split(line))
    assert said.code == 2
    assert words in said.err
    assert said.out == ""
    assert set(workplace.iterdir()) == before
