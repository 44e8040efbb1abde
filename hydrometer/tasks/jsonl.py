"""A user's own questions, one JSON object a line: `prompt` (text or messages) and `answer`, graded by exact match.

Optional columns: `id`, `solution` (or TRL's `privileged_context`), `wrong_answer`, `split`. Without a `split` column
every row belongs to the split `diagnose`.
"""

import os
import re
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.tasks.rows import FileTask, Split, expand, note_id, read_rows
from hydrometer.types import Message, Question, Score

_MARK = re.compile(r"^\W*(?:the\s+)?(?:final\s+)?answer\b\s*(?:is\b)?\s*[:=]?\s*", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*\*|__")
_ROLES = ("system", "user", "assistant")
_SPLITS: tuple[Split, ...] = ("train", "diagnose", "test")


def load_jsonl(path: str) -> FileTask:
    """Questions from a JSON-lines file.

    Raises:
        SpecError: no such file, a row whose columns cannot be used, or an id that comes twice.
    """
    file = expand(path)
    if not os.path.isfile(file):
        raise SpecError(f"'jsonl:{path}': there is no file {file}.")
    splits: dict[Split, list[Question]] = {}
    seen: dict[str, int] = {}
    for number, row in read_rows(file):
        question = _build_question(row, f"{file}, line {number}", number)
        note_id(seen, question.question_id, number, file)
        splits.setdefault(_split(row, f"{file}, line {number}"), []).append(question)
    if not seen:
        raise SpecError(f"{file} holds no questions.")
    return FileTask(f"jsonl:{path}", {split: tuple(found) for split, found in splits.items()}, verify_exact)


def verify_exact(question: Question, response: str) -> Score:
    """Correct where the last non-empty line, with or without a leading 'Answer:', or the whole response is the answer.

    Case, runs of white space, emphasis around the mark and a final full stop do not count. An empty response is
    unparsed.
    """
    lines = [line for line in response.splitlines() if line.strip()]
    if not lines:
        return Score(0.0, False, False)
    unmarked = _MARK.sub("", _EMPHASIS.sub("", lines[-1]))
    correct = _normalise(question.answer) in {_normalise(text) for text in (response, lines[-1], unmarked)}
    return Score(float(correct), correct, True)


def _normalise(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").rstrip().casefold()


def _build_question(row: dict[str, Any], place: str, number: int) -> Question:
    answer = _read_text(row, "answer", place)
    if answer is None:
        raise SpecError(f"{place}: the question has no answer (column 'answer': text or a number).")
    solution = _read_text(row, "solution", place) or _read_text(row, "privileged_context", place)
    wrong_answer = _read_text(row, "wrong_answer", place)
    if wrong_answer is not None and _normalise(wrong_answer) == _normalise(answer):
        raise SpecError(f"{place}: 'wrong_answer' is {wrong_answer!r}, which is the answer.")
    given = [row[name] for name in ("id", "question_id") if row.get(name) is not None]
    question_id = str(given[0]) if given else f"row-{number:06d}"
    prompt = _read_prompt(row.get("prompt"), place)
    return Question(question_id, "jsonl", prompt, answer, solution, wrong_answer)


def _read_text(row: dict[str, Any], column: str, place: str) -> str | None:
    """Text, or a number as text; None where the column is absent, null or blank."""
    value = row.get(column)
    if isinstance(value, dict | list):
        raise SpecError(f"{place}: column '{column}' has to be text or a number, found {value!r:.60}.")
    return None if value is None or not str(value).strip() else str(value)


def _read_prompt(prompt: object, place: str) -> tuple[Message, ...]:
    if isinstance(prompt, str) and prompt.strip():
        return (Message("user", prompt),)
    if isinstance(prompt, list) and prompt:
        turns = [turn for turn in prompt if isinstance(turn, dict)]
        if len(turns) == len(prompt) and all(
            isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in turns
        ):
            messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
            strange = [message.role for message in messages if message.role not in _ROLES]
            if strange:
                raise SpecError(f"{place}: unknown role {strange[0]!r}; expected one of {', '.join(_ROLES)}.")
            if messages[-1].role == "user":
                return messages
            raise SpecError(f"{place}: the last message of 'prompt' has role {messages[-1].role!r}, expected 'user'.")
    raise SpecError(f"{place}: 'prompt' has to be text or a list of {{role, content}} messages, found {prompt!r:.60}.")


def _split(row: dict[str, Any], place: str) -> Split:
    given = row.get("split", "diagnose")
    for split in _SPLITS:
        if given == split:
            return split
    raise SpecError(f"{place}: unknown split {given!r}; expected one of {', '.join(_SPLITS)}.")
