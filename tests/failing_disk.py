"""A process that dies at its n-th touch of the disk, and stays dead: nothing it does afterwards reaches a file."""

import builtins
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from hydrometer.artifacts import journal, run_folder


class Death(BaseException):
    """Not an Exception: like a kill, nothing in the program handles it."""


class FailingDisk:
    """Counts every step of every write and raises Death at step `fatal`; `steps` names those that happened.

    A journal line takes two steps (half of it written, all of it synced), any other file two (beside, in place).
    """

    def __init__(self, fatal: int | None = None):
        self.fatal = fatal
        self.steps: list[str] = []
        self.is_dead = False

    def step(self, name: str) -> None:
        self.refuse_the_dead()
        self.steps.append(name)
        if len(self.steps) == self.fatal:
            self.is_dead = True
            raise Death(name)

    def refuse_the_dead(self) -> None:
        if self.is_dead:
            raise Death("already dead")

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between the package and the disk."""
        unlink = Path.unlink

        def replace(partial: Path, path: Path) -> None:
            self.step(f"{path.name} beside")
            os.replace(partial, path)
            self.step(f"{path.name} in place")

        def guarded_unlink(path: Path, missing_ok: bool = False) -> None:
            self.refuse_the_dead()
            unlink(path, missing_ok=missing_ok)

        def fsync(descriptor: int) -> None:
            self.refuse_the_dead()

        def fsync_journal(descriptor: int) -> None:
            self.step("journal line synced")

        def open_journal(path: Path, mode: str, **options: Any) -> Any:
            return _SlowFile(builtins.open(path, mode, **options), self)

        monkeypatch.setattr(run_folder, "os", _with(replace=replace, fsync=fsync))
        monkeypatch.setattr(journal, "os", _with(fsync=fsync_journal))
        monkeypatch.setattr(journal, "open", open_journal, raising=False)
        monkeypatch.setattr(Path, "unlink", guarded_unlink)


def _with(**functions: Any) -> SimpleNamespace:
    """The module os with some functions of ours."""
    return SimpleNamespace(**(vars(os) | functions))


class _SlowFile:
    """A raw file that takes a line in two pieces, and lets nobody clean up after a death."""

    def __init__(self, file: BinaryIO, disk: FailingDisk):
        self.file = file
        self.disk = disk

    def write(self, data: memoryview) -> int:
        self.disk.refuse_the_dead()
        is_first = bytes(data[8:9]) == b" "
        written = self.file.write(data[: max(1, len(data) // 2)] if is_first else data)
        if is_first:
            self.disk.step("journal line half written")
        return written

    def truncate(self, size: int) -> None:
        self.disk.refuse_the_dead()
        self.file.truncate(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
