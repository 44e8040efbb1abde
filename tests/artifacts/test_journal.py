import json
import os
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from hydrometer.artifacts import Journal, read_journal
from hydrometer.errors import DiskError, RunFolderError

RECORDS = [
    {"round": "sample", "key": ["q0", 0, 3], "rows": [[1, 2, 3], "text\nwith \u00e4 line"]},
    {"round": "score", "key": [], "value": 0.1},
    {"round": "branch", "empty": {}},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write(path: Path, records: list[dict]) -> bytes:
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def test_records_come_back_in_order_and_appending_goes_on(path: Path):
    write(path, RECORDS[:2])
    reopened = Journal(path)
    assert reopened.records == RECORDS[:2]
    reopened.append(RECORDS[2])
    reopened.close()
    assert read_journal(path) == (RECORDS, path.stat().st_size)


def test_a_journal_that_is_not_there_is_empty(path: Path):
    assert read_journal(path) == ([], 0)
    assert not path.exists()
    with closing(Journal(path)) as journal:
        assert journal.records == []
    assert path.exists()


def test_a_record_is_in_the_file_before_append_returns(path: Path):
    journal = Journal(path)
    for number, record in enumerate(RECORDS):
        journal.append(record)
        assert read_journal(path)[0] == RECORDS[: number + 1]
    journal.close()


def test_each_line_carries_the_checksum_of_its_text(path: Path):
    for line, record in zip(write(path, RECORDS).splitlines(), RECORDS, strict=True):
        checksum, _, body = line.partition(b" ")
        assert int(checksum, 16) == zlib.crc32(body)
        assert json.loads(body) == record


def test_a_tear_at_any_byte_loses_the_last_record_only(path: Path):
    whole = write(path, RECORDS)
    ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        intact = sum(end <= size for end in ends)
        journal = Journal(path)
        assert journal.records == RECORDS[:intact]
        journal.append({"round": "after the tear"})
        journal.close()
        assert read_journal(path)[0] == [*RECORDS[:intact], {"round": "after the tear"}]


@pytest.mark.parametrize(
    "tail", [b"\0" * 40, b"garbage", b"deadbeef {}\n", b"\n"], ids=["zeros", "text", "checksum", "break"]
)
def test_a_tail_of_anything_else_is_cut_off_too(path: Path, tail: bytes):
    whole = write(path, RECORDS)
    path.write_bytes(whole + tail)
    with closing(Journal(path)) as journal:
        assert journal.records == RECORDS
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(path: Path):
    whole = write(path, RECORDS)
    starts = [0, *(end + 1 for end, byte in enumerate(whole) if byte == ord("\n"))]
    for line in (1, 2):
        for place in range(starts[line - 1], starts[line]):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            if line == 2 and place == starts[2] - 1:
                continue  # without its line break the second line is part of a torn last one
            with pytest.raises(RunFolderError, match=f"{path}: line {line} is damaged"):
                Journal(path)
            assert path.read_bytes() == bytes(damaged), "nothing is cut from a damaged journal"


def test_numbers_that_json_does_not_know_are_refused_before_anything_is_written(path: Path):
    with closing(Journal(path)) as journal:
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="not JSON compliant"):
                journal.append({"value": value})
    assert path.read_bytes() == b""


def test_a_full_disk_is_told_and_the_file_stays_as_it_was(path: Path):
    before = write(path, RECORDS)
    journal = Journal(path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file.fileno())
    os.close(full)
    with pytest.raises(DiskError, match=rf"No space left while writing {path}.*--resume"):
        journal.append(RECORDS[0])
    journal.close()
    assert path.read_bytes() == before


LIMITED = """
import resource, sys
from pathlib import Path
from hydrometer.artifacts import Journal
from hydrometer.errors import DiskError

path, limit = Path(sys.argv[1]), int(sys.argv[2])
journal = Journal(path)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for attempt in (1, 2):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        journal.append({"round": "large", "text": "x" * 500})
        sys.exit("the limit did not bite")
    except DiskError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    journal.append({"round": "small", "attempt": attempt})
"""


def test_a_write_that_breaks_off_half_way_leaves_whole_records_only(path: Path):
    size = len(write(path, RECORDS))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(size + 100)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"No space left while writing {path}") == 2
    records, intact_bytes = read_journal(path)
    assert records == [*RECORDS, {"round": "small", "attempt": 1}, {"round": "small", "attempt": 2}]
    assert intact_bytes == path.stat().st_size


def test_when_even_the_cut_fails_nothing_is_written_after_the_tear(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(path)
    journal.append(RECORDS[0])

    class Stuck:
        """Takes five bytes of a line, then neither more nor less."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, line):
            if len(line) < 20:
                raise OSError(28, "No space left on device")
            return self.file.write(line[:-10])

        def truncate(self, size):
            raise OSError(5, "Input/output error")

    journal._file = Stuck(journal._file)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DiskError):
        journal.append(RECORDS[1])
    with pytest.raises(ValueError, match="closed file"):
        journal.append(RECORDS[2])
    assert read_journal(path)[0] == RECORDS[:1]


def test_a_journal_that_cannot_be_opened_is_told(tmp_path: Path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        Journal(tmp_path)
    with pytest.raises(DiskError, match="Cannot write"):
        Journal(tmp_path / "missing" / "journal.jsonl")
