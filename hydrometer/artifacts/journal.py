"""An append-only journal of rounds: one checksummed JSON line per round, replayed by `--resume`.

A line is on the disk (fsync) before its round counts as done. A torn last line, left by a kill or a full disk, is cut
off when the journal is opened again and its round is redone; damage anywhere else is an error, never skipped.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.errors import RunFolderError
from hydrometer.inputs import refuse_special

Record = dict[str, Any]


class Journal:
    """Owns the open journal file. `records` are those found when it was opened."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_symlink():
            raise RunFolderError(f"{path} is a link to {path.readlink()}; a journal is only written in its own folder.")
        self.records, good_bytes = read_journal(path)
        with translate_disk_errors(path):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
            self._file.truncate(good_bytes)
            self._file.seek(good_bytes)

    def append(self, record: Mapping[str, Any]) -> None:
        """Make `record` durable.

        Raises:
            DiskError: the disk is full or refuses; the journal is as it was before.
        """
        body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        start = self._file.tell()
        try:
            with translate_disk_errors(self.path):
                line = memoryview(b"%08x %s\n" % (zlib.crc32(body), body))
                while line:  # a raw write may take only part of it
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
        except BaseException:
            self._cut(start)
            raise

    def _cut(self, size: int) -> None:
        """Remove a torn line; where even that fails, write nothing more: the next opening cuts it."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file; nothing is pending."""
        with contextlib.suppress(OSError):
            self._file.close()


def read_journal(path: Path) -> tuple[list[Record], int]:
    """All intact records and the number of bytes they take.

    Raises:
        RunFolderError: a line other than the last is damaged, or the file cannot be read.
    """
    try:
        refuse_special(path)
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror or error}). Mend its permissions.") from error
    records: list[Record] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        record = None if end < 0 else _parse_line(data[start:end])
        if record is None:
            if end >= 0 and end + 1 < len(data):
                raise RunFolderError(
                    f"{path}: line {len(records) + 1} is damaged (its checksum does not match). The rounds before "
                    "it are intact; restore the file from a copy, or start again in a new folder."
                )
            break
        records.append(record)
        start = end + 1
    return records, start


def _parse_line(line: bytes) -> Record | None:
    checksum, _, body = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(body):
            return None
        return json.loads(body)
    except ValueError:
        return None
