"""`jsonl:PATH`: a user's own questions, one JSON object a line (columns: see `columns`).

Optional columns: `id`, `split`, `answer_type`, `teacher_id`, `wrong_answer`, `solution` (TRL: `privileged_context`).
Without a `split` column every row belongs to the split `diagnose`.
"""

import os
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.tasks.columns import build_question, choose_verifier
from hydrometer.tasks.rows import SPLITS, QuestionSet, Split, expand, note_id, read_rows
from hydrometer.types import Question


def load_jsonl(path: str, verifier: str | None = None) -> QuestionSet:
    """Questions from a JSON-lines file.

    Raises:
        SpecError: no such file, a row whose columns cannot be used, or an id that comes twice.
    """
    file = expand(path)
    if not os.path.isfile(file):
        raise SpecError(f"'jsonl:{path}': there is no file {file}.")
    rows = list(read_rows(file))
    if not rows:
        raise SpecError(f"{file} holds no questions.")
    types = {str(row["answer_type"]): f"{file}, line {n}" for n, row in reversed(rows) if row.get("answer_type")}
    verifier = choose_verifier(types, verifier)
    splits: dict[Split, list[Question]] = {}
    seen: dict[str, int] = {}
    for number, row in rows:
        place = f"{file}, line {number}"
        given = [row[name] for name in ("id", "question_id") if row.get(name) is not None]
        question_id = str(given[0]) if given else f"row-{number:06d}"
        question = build_question(row, place, question_id=question_id, task="jsonl", verifier=verifier)
        note_id(seen, question_id, number, file)
        splits.setdefault(_split(row, place), []).append(question)
    return QuestionSet(
        f"jsonl:{path}",
        {split: tuple(found) for split, found in splits.items()},
        verifier,
        "Give its rows a column 'split' (train, diagnose or test).",
    )


def _split(row: dict[str, Any], place: str) -> Split:
    given = row.get("split", "diagnose")
    for split in SPLITS:
        if given == split:
            return split
    raise SpecError(f"{place}: unknown split {given!r}; expected one of {', '.join(SPLITS)}.")
