import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from hydrometer.artifacts import (
    SCHEMA_VERSION,
    build_table,
    open_run_folder,
    read_json,
    read_table,
    write_json,
    write_table,
    write_text,
)
from hydrometer.errors import DiskError, RunFolderError

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})


# --- who may use a folder


def test_a_new_folder_is_made_with_a_journal_and_a_lock(tmp_path: Path):
    with open_run_folder(tmp_path / "runs" / "first", resume=False) as folder:
        folder.journal.append({"round": 1})
        assert {entry.name for entry in folder.path.iterdir()} == {"journal.jsonl", "lock"}
    with open_run_folder(tmp_path / "runs" / "first", resume=True) as folder:
        assert folder.journal.records == [{"round": 1}]


def test_an_empty_or_barely_started_folder_can_be_used_either_way(tmp_path: Path):
    for resume in (True, False):
        (tmp_path / f"empty-{resume}").mkdir()
        open_run_folder(tmp_path / f"empty-{resume}", resume=resume).close()
        (tmp_path / f"locked-{resume}").mkdir()
        (tmp_path / f"locked-{resume}" / "lock").touch()
        open_run_folder(tmp_path / f"locked-{resume}", resume=resume).close()
    open_run_folder(tmp_path / "new", resume=True).close()
    open_run_folder(tmp_path / "new", resume=True).close()


@pytest.mark.parametrize(
    ("files", "resume", "words"),
    [
        (["journal.jsonl"], False, "is not empty. Choose another folder, or continue that run with --resume"),
        (["notes.txt"], False, "is not empty"),
        (["notes.txt"], True, "holds other files and no run of ours"),
        (["run.json"], True, "has lost its journal.jsonl"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused_untouched(
    tmp_path: Path, files: list[str], resume: bool, words: str
):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(RunFolderError, match=words) as caught:
        open_run_folder(tmp_path, resume=resume)
    assert str(tmp_path) in str(caught.value)
    assert {entry.name for entry in tmp_path.iterdir()} == set(files)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="is a file; a run needs a folder"):
        open_run_folder(tmp_path / "file", resume=False)
    with pytest.raises((RunFolderError, DiskError)):
        open_run_folder(tmp_path / "file" / "below", resume=False)


@pytest.mark.parametrize("name", ["x" * 300, "proc"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, name: str):
    path = Path("/proc/nothing") if name == "proc" else tmp_path / name
    with pytest.raises((DiskError, RunFolderError), match=f"{path}"):
        open_run_folder(path, resume=False)


HOLD = """
import sys
from pathlib import Path
from hydrometer.artifacts import open_run_folder

with open_run_folder(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until it is killed or the block ends."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_folder_in_use_by_another_process_is_refused_and_free_again_afterwards(tmp_path: Path):
    with (
        held_elsewhere(tmp_path),
        pytest.raises(RunFolderError, match=f"{tmp_path} is in use by another hydrometer process"),
    ):
        open_run_folder(tmp_path, resume=True)
    open_run_folder(tmp_path, resume=True).close()


def test_a_run_that_is_killed_leaves_no_lock_behind(tmp_path: Path):
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait()
        open_run_folder(tmp_path, resume=True).close()


def test_a_folder_that_another_run_filled_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from hydrometer.artifacts import run_folder

    class LateLock(run_folder.FileLock):
        def acquire(self, *args, **kwargs):
            (tmp_path / "journal.jsonl").write_bytes(b"another run's")
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(run_folder, "FileLock", LateLock)
    with pytest.raises(RunFolderError, match="is not empty"):
        open_run_folder(tmp_path, resume=False)
    assert (tmp_path / "journal.jsonl").read_bytes() == b"another run's"


def test_a_damaged_journal_frees_the_lock(tmp_path: Path):
    (tmp_path / "journal.jsonl").write_bytes(b"damage\nmore\n")
    for _ in range(2):
        with pytest.raises(RunFolderError, match="line 1 is damaged"):
            open_run_folder(tmp_path, resume=True)


# --- files that get there whole or not at all


def writers(folder: Path) -> list[tuple[Path, bytes]]:
    """Every kind of file with its content now."""
    write_text(folder / "page.html", "<p>")
    write_json(folder / "run.json", {"schema_version": SCHEMA_VERSION})
    write_table(folder / "table.parquet", FRAME)
    return [(path, path.read_bytes()) for path in sorted(folder.iterdir())]


def rewrite(path: Path) -> None:
    match path.suffix:
        case ".parquet":
            write_table(path, FRAME.head(1))
        case ".json":
            write_json(path, {"schema_version": 0})
        case _:
            write_text(path, "other")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = writers(tmp_path)
    assert len(files) == 3
    for path, before in files:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DiskError, match=rf"No space left while writing {path}.*--resume"):
                rewrite(path)
        assert path.read_bytes() == before
        assert not os.path.lexists(f"{path}.partial")
        rewrite(path)
        assert path.read_bytes() != before


def test_a_link_in_the_way_of_a_file_is_replaced_and_its_target_left_alone(tmp_path: Path):
    files = writers(tmp_path)
    other = tmp_path / "precious"
    other.write_bytes(b"mine")
    for path, before in files:
        os.symlink(other, f"{path}.partial")
        rewrite(path)
        assert path.read_bytes() != before
        assert not path.is_symlink()
    assert other.read_bytes() == b"mine"


def test_a_folder_that_is_gone_is_told(tmp_path: Path):
    for name in ("page.html", "run.json", "table.parquet"):
        with pytest.raises(DiskError, match=f"Cannot write {tmp_path / 'gone' / name}"):
            rewrite(tmp_path / "gone" / name)


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = writers(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    for path, _ in files:
        with pytest.raises(KeyboardInterrupt):
            rewrite(path)
    assert [(path, path.read_bytes()) for path in sorted(tmp_path.iterdir())] == files


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b))[1])
    assert len(writers(tmp_path)) == 3
    assert done == ["fsync", "replace"] * 3


def test_text_that_is_no_unicode_is_written_with_marks(tmp_path: Path):
    write_text(tmp_path / "page.html", "half \ud83d")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "half ?"


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path):
    write_json(tmp_path / "summary.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "summary.json", {"a": float("nan")})
    assert read_json(tmp_path / "summary.json") == {"a": 1}


# --- reading back


def test_files_come_back_as_they_were_written(tmp_path: Path):
    writers(tmp_path)
    assert read_table(tmp_path / "table.parquet").equals(FRAME)
    write_json(tmp_path / "summary.json", {"ä": [1, None, 0.1]})
    assert read_json(tmp_path / "summary.json") == {"ä": [1, None, 0.1]}
    assert "ä" in (tmp_path / "summary.json").read_text(encoding="utf-8")


def test_a_table_cut_off_anywhere_is_told_with_advice(tmp_path: Path):
    write_table(tmp_path / "whole.parquet", FRAME)
    data = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "table.parquet"
    for size in (*range(0, len(data), 37), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(RunFolderError, match=rf"{path} is damaged .*--resume"):
            read_table(path)


def test_a_table_that_is_damaged_inside_is_told_or_read_but_never_a_crash(tmp_path: Path):
    rows = [
        {
            "question_id": f"q{n}",
            "teacher": "t",
            "prompt": "x" * n,
            "demo_rollout_ids": [n],
            "demos_by": "student",
            "summariser": None,
            "skipped": n % 2 == 0,
            "messages": [],
            "instances": [{"weight": 1.0, "prompt": "x"}],
        }
        | {"reason": None}
        for n in range(40)
    ]
    write_table(tmp_path / "whole.parquet", build_table("contexts", rows))
    data = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "table.parquet"
    refused = 0
    for place in range(4, len(data), 11):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        try:
            read_table(path)
        except RunFolderError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("name", ["table.parquet", "summary.json"])
def test_a_missing_file_is_told(tmp_path: Path, name: str):
    with pytest.raises(RunFolderError, match=f"{tmp_path / name} is missing"):
        (read_table if name.endswith("parquet") else read_json)(tmp_path / name)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": 1} more'])
def test_damaged_json_is_told_with_advice(tmp_path: Path, content: bytes):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{tmp_path / 'summary.json'} cannot be read .*--resume"):
        read_json(tmp_path / "summary.json")


def test_json_of_another_shape_or_version_is_told(tmp_path: Path):
    (tmp_path / "summary.json").write_text("[1]")
    with pytest.raises(RunFolderError, match="holds list, expected a JSON object"):
        read_json(tmp_path / "summary.json")
    for version in (None, 0, SCHEMA_VERSION + 1):
        (tmp_path / "run.json").write_text(json.dumps({"schema_version": version}))
        with pytest.raises(RunFolderError, match=f"has schema_version {version}, this version reads {SCHEMA_VERSION}"):
            read_json(tmp_path / "run.json")
