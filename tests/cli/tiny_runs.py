"""What the tests of the command line share: a task of six questions, options of a run of a second, what was said."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[[Sequence[str]], Said]
QUESTIONS = [
    {"id": f"q{i}", "prompt": "a" * (i + 1), "answer": "a", "wrong_answer": "b", "solution": "b\na"} for i in range(6)
]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tiny(**changes: str) -> list[str]:
    """Options of a run of a second; `None` leaves one out."""
    options = {
        "student": "student",
        "teacher": "good=good",
        "task": "jsonl:questions.jsonl",
        "max-response-tokens": "6",
        "questions": "6",
        "rollouts": "12",
        "paths": "1",
        "visits": "6",
        "min-visits": "6",
    }
    options |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [text for name, value in options.items() for text in (f"--{name}", value)]


TINY = tiny()
