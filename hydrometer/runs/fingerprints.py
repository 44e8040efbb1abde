"""SHA-256 over what a run is made from, so that something edited is told from what it was."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from hydrometer.types import Question


def fingerprint(parts: Iterable[bytes]) -> str:
    """Of the parts in their order, each ended by a newline."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\n")
    return f"sha256:{digest.hexdigest()}"


def fingerprint_questions(questions: Sequence[Question], *, wanted: int, has_pilot: bool) -> str:
    """Of the questions that a run may take: a task file that was edited is another task."""
    taken = questions if has_pilot else questions[:wanted]
    return fingerprint(json.dumps(asdict(question)).encode() for question in taken)
