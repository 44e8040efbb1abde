"""One run's folder: who may write it, and how each file gets there whole or not at all."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from hydrometer.artifacts.disk import translate_disk_errors
from hydrometer.artifacts.journal import Journal
from hydrometer.artifacts.schemas import SCHEMA_VERSION
from hydrometer.errors import RunFolderError
from hydrometer.inputs import read_plain_text, refuse_special

JOURNAL = "journal.jsonl"
_MOST_JSON_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A locked run folder with its open journal. Leave it through `close()` (or as a context manager)."""

    path: Path
    journal: Journal
    lock: FileLock

    def close(self) -> None:
        """Release the journal and the lock."""
        self.journal.close()
        self.lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_run_folder(path: Path, *, resume: bool) -> RunFolder:
    """Create or reopen a run folder and take its lock.

    Raises:
        RunFolderError: not empty without `resume`; locked by another process; not a run folder; a damaged journal.
        DiskError: the folder cannot be made.
    """
    refuse_used_folder(path, resume=resume)
    with translate_disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderError(f"{path} is in use by another hydrometer process (its lock is held).") from error
    try:
        refuse_used_folder(path, resume=resume)  # another process may have come and gone since the first look
        return RunFolder(path, Journal(path / JOURNAL), lock)
    except BaseException:
        lock.release()
        raise


def refuse_used_folder(path: Path, *, resume: bool) -> None:
    """Look, without touching it, whether a run may use a folder.

    Raises:
        RunFolderError: a file, other content, or a run without `resume`.
    """
    if "\0" in str(path):
        raise RunFolderError(f"--out {path}: a folder name cannot hold a NUL character.")
    if os.path.exists(path) and not os.path.isdir(path):
        raise RunFolderError(f"--out {path} is a file; a run needs a folder of its own.")
    try:
        content = set(os.listdir(path)) - {"lock"}
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFolderError(f"--out {path} cannot be read ({error.strerror}).") from error
    if content and not resume:
        raise RunFolderError(f"--out {path} is not empty. Choose another folder, or continue that run with --resume.")
    if content and JOURNAL not in content and "run.json" not in content:
        raise RunFolderError(f"--out {path} holds other files and no run of ours; --resume needs a run folder.")
    if "run.json" in content and JOURNAL not in content:
        raise RunFolderError(f"{path} has lost its {JOURNAL}, so it cannot be resumed; start again in a new folder.")


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step: readers see the old file or the new one.

    Raises:
        DiskError: the disk refuses.
    """
    with translate_disk_errors(path):
        _replace(path, text.encode("utf-8", errors="replace"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step; NaN and infinity are refused (they have no place in a run folder)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """Replace a parquet file in one step.

    Raises:
        DiskError: the disk refuses.
    """
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    with translate_disk_errors(path):
        _replace(path, buffer.getvalue())


def write_parts(path: Path, parts: Sequence[bytes]) -> None:
    """Replace a parquet file by the rows of others, which are streamed one after another.

    Raises:
        DiskError: the disk refuses.
    """
    buffer = io.BytesIO()
    pl.scan_parquet([io.BytesIO(part) for part in parts]).sink_parquet(buffer, compression="zstd", statistics=True)
    with translate_disk_errors(path):
        _replace(path, buffer.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder.

    Raises:
        RunFolderError: it is missing, is not JSON, or has another schema version (run.json).
    """
    try:
        value = json.loads(read_plain_text(path, _MOST_JSON_BYTES))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing: {path.parent} is not a (finished) run folder.") from error
    except (ValueError, RecursionError, OSError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}). Run again with --resume to rebuild it.") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} holds {type(value).__name__}, expected a JSON object.")
    if path.name == "run.json" and value.get("schema_version") != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema_version {value.get('schema_version')}, this version reads {SCHEMA_VERSION}. "
            "Use the hydrometer version that wrote it, or run the diagnosis again."
        )
    return value


def read_run_json(folder: Path, kind: str) -> dict[str, Any]:
    """The run.json of a run of this kind (`diagnosis`, `evaluation` ...).

    Raises:
        RunFolderError: see `read_json`; also a run of another kind.
    """
    run = read_json(folder / "run.json")
    if run.get("kind", kind) != kind:
        raise RunFolderError(f"{folder} is the folder of a run of kind '{run['kind']}'; expected a {kind}.")
    return run


def read_table(path: Path) -> pl.DataFrame:
    """A parquet table of a run folder.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with _translate_unreadable(path):
        refuse_special(path)
        return pl.read_parquet(path, glob=False)  # a folder may be called "a[b]"


def scan_table(path: Path) -> pl.LazyFrame:
    """The same table, of which only columns and types are read yet.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    with _translate_unreadable(path):
        refuse_special(path)
        frame = pl.scan_parquet(path, glob=False)
        frame.collect_schema()
        return frame


@contextlib.contextmanager
def _translate_unreadable(path: Path) -> Iterator[None]:
    """Raise RunFolderError for a parquet file that is missing or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing: {path.parent} is not a finished run folder.") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunFolderError(
            f"{path} is damaged ({first[:200]}). Run again with --resume to rebuild it from the journal."
        ) from error


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)  # left by a kill, or a link that somebody put there to have its target written
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # half a file would only take the space that is wanting
            partial.unlink()
        raise
