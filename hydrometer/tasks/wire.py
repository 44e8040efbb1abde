"""What passes between a run and its processes: one JSON line per batch, per graded response, per split of a task.

Lone surrogates survive as JSON escapes. A question is sent once per batch, however many responses it has.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from hydrometer.types import Grades, Message, Question, Score, VerifierFailure

Pairs = Sequence[tuple[Question, str]]
FIXED_ORDER = {"PYTHONHASHSEED": "0"}
"""Environment in which sets have the same order in every process."""


def child_command(module: str, function: str, *arguments: object) -> list[str]:
    """Command line of a Python process that finds this one's modules and calls a function; arguments go as JSON."""
    start = (
        "import json,sys;path,arguments=json.loads(sys.argv[1]);sys.path[:]=path;"
        f"from {module} import {function};{function}(*arguments)"
    )
    return [sys.executable, "-c", start, json.dumps([sys.path, arguments])]


def encode_batch(pairs: Pairs) -> bytes:
    """Questions and responses as one line."""
    numbers: dict[int, int] = {}
    questions: list[dict[str, Any]] = []
    items = []
    for question, response in pairs:
        if id(question) not in numbers:
            numbers[id(question)] = len(questions)
            questions.append(_fields_of(question))
        items.append([numbers[id(question)], response])
    return json.dumps({"questions": questions, "items": items}, separators=(",", ":")).encode() + b"\n"


def decode_batch(line: bytes) -> list[tuple[Question, str]]:
    """The inverse of `encode_batch`."""
    batch = json.loads(line)
    questions = [_question_from(fields) for fields in batch["questions"]]
    return [(questions[number], response) for number, response in batch["items"]]


def encode_questions(questions: Sequence[Question]) -> bytes:
    """The questions of a split as one line."""
    return json.dumps([_fields_of(question) for question in questions], separators=(",", ":")).encode() + b"\n"


def decode_questions(line: bytes) -> tuple[Question, ...]:
    """The inverse of `encode_questions`."""
    return tuple(_question_from(fields) for fields in json.loads(line))


def _fields_of(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in Question.__slots__}


def _question_from(fields: dict[str, Any]) -> Question:
    return Question(**{**fields, "prompt": tuple(Message(*turn) for turn in fields["prompt"])})


def encode_reply(reply: Grades | VerifierFailure) -> bytes:
    """The two scores, or the kind of failure and its detail, as one line."""
    fields = list(reply) if isinstance(reply, VerifierFailure) else [*reply.strict, *reply.relaxed]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_reply(line: bytes) -> Grades | VerifierFailure:
    """The inverse of `encode_reply`.

    Raises:
        ValueError: it is no reply of ours, but something that the verifier wrote in its place.
    """
    fields = json.loads(line)
    match fields:
        case ["raised" | "time" | "memory" | "died" as kind, str() as detail]:
            return VerifierFailure(kind, detail)
        case [float() | int() as a, bool() as b, bool() as c, float() | int() as d, bool() as e, bool() as f]:
            return Grades(Score(a, b, c), Score(d, e, f))
    raise ValueError("not a reply")
