"""Questions held in memory, read from JSON-lines files (plain or gzipped), and how they fall into splits."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydrometer.errors import SpecError
from hydrometer.inputs import open_plain
from hydrometer.types import Message, Question

Split = Literal["train", "diagnose", "test"]
SPLITS: tuple[Split, ...] = ("train", "diagnose", "test")
MOST_ROW_CHARACTERS = 16 << 20
MOST_FILE_CHARACTERS = 1 << 30
"""Of unpacked text; all rows are held in memory. A packed file of a few MiB can hold more than any machine does."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The questions of a task, by split, and the name of the verifier that goes with them."""

    name: str
    by_split: Mapping[Split, tuple[Question, ...]]
    verifier: str
    hint: str = ""
    """What to do where a split is empty."""

    def questions(self, split: Split) -> Sequence[Question]:
        """See `Task`.

        Raises:
            SpecError: there are no questions of this split.
        """
        found = self.by_split.get(split, ())
        if not found:
            raise SpecError(
                f"{self.name} has no questions in the split '{split}'; it has {sorted(self.by_split) or 'none'}. "
                f"{self.hint}".rstrip()
            )
        return found


def hash_of(text: str, purpose: str) -> int:
    """A number below 2**32 that depends on the text alone; other purposes give independent numbers."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big")


def split_held_out(text: str) -> Split:
    """`diagnose` or `test`, half each."""
    return "diagnose" if hash_of(text, "split") & 1 else "test"


def in_hashed_order(questions: Sequence[Question]) -> tuple[Question, ...]:
    """In the order of a hash of their ids: the first n are a sample, however the file is sorted."""
    return tuple(sorted(questions, key=lambda question: (hash_of(question.question_id, "order"), question.question_id)))


def drop_repeated(splits: Mapping[Split, Sequence[Question]]) -> dict[Split, tuple[Question, ...]]:
    """Without questions that were asked before, in the split test, diagnose or train (the first one keeps it)."""
    seen: set[tuple[Message, ...]] = set()
    kept: dict[Split, tuple[Question, ...]] = {}
    for split in reversed(SPLITS):
        found = []
        for question in splits.get(split, ()):
            if question.prompt not in seen:
                seen.add(question.prompt)
                found.append(question)
        if found:
            kept[split] = tuple(found)
    return kept


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every non-empty line.

    Raises:
        SpecError: the file cannot be read, or a line is not a JSON object of real text (no unpaired surrogates).
    """
    try:
        with contextlib.ExitStack() as opened:
            packed: Any = opened.enter_context(open_plain(path))
            plain = opened.enter_context(gzip.GzipFile(fileobj=packed)) if path.suffix == ".gz" else packed
            file = opened.enter_context(io.TextIOWrapper(plain, encoding="utf-8-sig"))
            for number, line in enumerate(_bounded_lines(file, path), 1):
                if line.strip():
                    yield number, _parse_row(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from error


def _bounded_lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Lines, without ever holding more of a line than the limit.

    Raises:
        SpecError: a line, or all of them together, are too long.
    """
    total = 0
    number = 0
    while line := file.readline(MOST_ROW_CHARACTERS + 1):
        number += 1
        total += len(line)
        if len(line) > MOST_ROW_CHARACTERS:
            raise SpecError(f"{path}, line {number}: it has more than {MOST_ROW_CHARACTERS:,} characters.")
        if total > MOST_FILE_CHARACTERS:
            raise SpecError(
                f"{path} holds more than {MOST_FILE_CHARACTERS:,} characters of text (line {number} goes beyond); all "
                "of it would have to fit into memory. Give a file with fewer questions."
            )
        yield line


def _parse_row(line: str, place: str) -> dict[str, Any]:
    shown = repr(line.strip()[:60])
    try:
        row = json.loads(line)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise SpecError(f"{place}: half of a surrogate pair, which is no text: {shown}.") from error
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise SpecError(f"{place}: not JSON ({getattr(error, 'msg', error)}): {shown}.") from error
    if not isinstance(row, dict):
        raise SpecError(f"{place}: expected a JSON object, found {shown}.")
    return row


def note_id(seen: dict[str, int], question_id: str, number: int, file: Path) -> None:
    """Remember on which line an id stands.

    Raises:
        SpecError: it already stood on an earlier line.
    """
    if question_id in seen:
        raise SpecError(f"{file}, line {number}: the id {question_id!r} is already that of line {seen[question_id]}.")
    seen[question_id] = number


def expand(path: str) -> Path:
    """The path with `~` written out (an unknown user's `~name` stays as it is)."""
    return Path(os.path.expanduser(path))


_ROWS = "Its rows are JSON lines (docs/tasks.md has their columns); hf:DATASET reads a data set of the Hub."


def find_data_file(given: str | None, name: str, task: str) -> Path:
    """The file of a data-set task: as given, or `name` under the folder HYDROMETER_DATA.

    Raises:
        SpecError: neither is there.
    """
    if given:
        path = expand(given)
        if not os.path.isfile(path):
            raise SpecError(f"'{task}:{given}': there is no file {path}.")
        return path
    folder = os.environ.get("HYDROMETER_DATA")
    if not folder:
        raise SpecError(
            f"Task '{task}' needs its data: give {task}:PATH, or set HYDROMETER_DATA to the folder of {name}. {_ROWS}"
        )
    path = Path(folder) / name
    if not os.path.isfile(path):
        raise SpecError(
            f"Task '{task}': HYDROMETER_DATA is {folder}, and there is no {name} in it. Or give {task}:PATH. {_ROWS}"
        )
    return path
