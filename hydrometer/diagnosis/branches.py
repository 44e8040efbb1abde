"""Branch rollouts of a question: thousands of them, kept as compressed columns so that memory hardly grows with them.

A rollout of 45 tokens takes a kilobyte as objects and about sixty bytes here. What the analysis needs of a branch, its
visits and outcomes, is in the prefix tree; the rollout itself is asked for by rewards to go and by the table of
rollouts only.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from hydrometer.artifacts import TABLES
from hydrometer.types import Grades, Rollout, VerifierFailure

_BLOCK = 256
_ROLLOUT_COLUMNS = (
    "question_id",
    "rollout_id",
    "kind",
    "model",
    "parent_rollout_id",
    "forced_tokens",
    "token_ids",
    "text",
    "score",
    "correct",
    "truncated",
)


class Branches:
    """Owns the branches of one question, in the order in which they came."""

    def __init__(self) -> None:
        self.failures: list[VerifierFailure] = []
        """Of the verifier."""
        self._packed: list[bytes] = []
        self._loose: list[tuple[Rollout, Grades]] = []

    def __len__(self) -> int:
        return _BLOCK * len(self._packed) + len(self._loose)

    def __iter__(self) -> Iterator[Rollout]:
        for row in self.rows().select(_ROLLOUT_COLUMNS).iter_rows(named=True):
            named: dict[str, Any] = row | {"token_ids": tuple(row["token_ids"])}
            yield Rollout(**named)

    def add(self, rollout: Rollout, grades: Grades) -> None:
        """Take in one more."""
        self._loose.append((rollout, grades))
        if grades.failure is not None:
            self.failures.append(grades.failure)
        if len(self._loose) == _BLOCK:
            self._packed.append(pack(rollout_rows(self._loose)))
            self._loose = []

    def rows(self) -> pl.DataFrame:
        """All of them, as `rollout_rows` has them."""
        parts = [pl.read_parquet(part) for part in self._packed]
        return pl.concat([*parts, rollout_rows(self._loose)])


def rollout_rows(rollouts: Sequence[tuple[Rollout, Grades]]) -> pl.DataFrame:
    """Rows of the rollouts table, with `parsed_strict` and `parsed_relaxed` in place of `parsed`."""
    columns = {name: [getattr(rollout, name) for rollout, _ in rollouts] for name in _ROLLOUT_COLUMNS}
    columns |= {
        f"{what}_{grading}": [getattr(grades.under(grading), what) for _, grades in rollouts]
        for what in ("parsed", "correct")
        for grading in ("strict", "relaxed")
    }
    known = TABLES["rollouts"]
    return pl.DataFrame(columns, schema={name: known.get(name, pl.Boolean) for name in columns})


def pack(frame: pl.DataFrame) -> bytes:
    """A compressed parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
