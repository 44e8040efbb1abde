"""`--rollouts-from FILE`: reading a user's own rollouts, one JSON object a line, and grouping them by question.

`prompt` (text or messages), `response` (text) or `response_ids` / `token_ids`, `reward` / `score` / `correct`; optional
`group` / `question_id` / `id`, `answer`, `solution` / `privileged_context`, `wrong_answer`, `truncated` or
`finish_reason`, and `logprobs` of the tokens. docs/own-rollouts.md says what becomes of each.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydrometer.errors import SpecError
from hydrometer.tasks.columns import build_question
from hydrometer.tasks.rows import expand, read_rows
from hydrometer.types import Question

_GROUPS = ("group", "question_id", "id")
_REWARDS = ("reward", "score", "correct")
_IDS = ("response_ids", "token_ids")
_SHARED = ("prompt", "answer", "solution", "wrong_answer")
"""What the rows of one question must not disagree on."""


class GivenRow(NamedTuple):
    """One response of the file; exactly one of `text` and `token_ids` is there."""

    line: int
    text: str | None
    token_ids: tuple[int, ...] | None
    reward: float
    truncated: bool | None
    """None: the file does not say."""
    logprobs: tuple[float, ...] | None


class GivenGroup(NamedTuple):
    """The responses to one question, in the order of the file."""

    question: Question
    rows: tuple[GivenRow, ...]


def read_groups(path: str) -> tuple[GivenGroup, ...]:
    """Every question of a file of rollouts, in the order of their first lines.

    Raises:
        SpecError: no such file, a row that cannot be used, or rows of one question that disagree; the line is named.
    """
    file = expand(path)
    if not os.path.isfile(file):
        raise SpecError(f"--rollouts-from '{path}': there is no file {file}.")
    column: str | None = None
    groups: dict[str, tuple[Question, int, list[GivenRow]]] = {}
    for number, row in read_rows(file):
        place = f"{file}, line {number}"
        found = next((name for name in _GROUPS if row.get(name) is not None), None)
        if groups and found != column:
            raise SpecError(
                f"{place}: has {_name(found)} while the lines before it have {_name(column)}. Either every row names "
                "its group in the same column, or none does and rows with equal prompts are one group."
            )
        column = found
        key = _read_group(row[found], place, found) if found else _prompt_key(row, place)
        question_id = key if found else (groups[key][0].question_id if key in groups else f"line-{number:06d}")
        question = build_question(
            _refuse_bare(row, place), place, question_id=question_id, task="rollouts", verifier="", needs_answer=False
        )
        first, line, rows = groups.setdefault(key, (question, number, []))
        _refuse_disagreement(first, question, place, line)
        rows.append(_read_row(row, number, place))
    if not groups:
        raise SpecError(f"{file} holds no rollouts.")
    _refuse_rollout_ids(groups.values(), column, file)
    return tuple(GivenGroup(question, tuple(rows)) for question, _, rows in groups.values())


def _name(column: str | None) -> str:
    return f"'{column}'" if column else f"none of {', '.join(_GROUPS)}"


def _read_group(value: object, place: str, column: str) -> str:
    if isinstance(value, dict | list) or not str(value).strip():
        raise SpecError(f"{place}: '{column}' has to be text or a number, found {value!r:.60}.")
    return str(value)


def _prompt_key(row: dict[str, Any], place: str) -> str:
    return repr(_refuse_bare(row, place)["prompt"])


def _refuse_bare(row: dict[str, Any], place: str) -> dict[str, Any]:
    if row.get("prompt") is None:
        raise SpecError(f"{place}: no 'prompt'; expected the text or the messages that the response was sampled from.")
    return row


def _refuse_disagreement(first: Question, other: Question, place: str, line: int) -> None:
    for name in _SHARED:
        before, now = getattr(first, name), getattr(other, name)
        if before != now:
            raise SpecError(
                f"{place}: its {name} differs from that of line {line}, which is in the same group "
                f"'{first.question_id}': {_shown(now)} and {_shown(before)}."
            )


def _shown(value: object) -> str:
    text = " / ".join(message.content for message in value) if isinstance(value, tuple) else value
    return f"{text!r:.60}"


def _refuse_rollout_ids(groups: Any, column: str | None, file: Path) -> None:
    """An id that is another one in every row although prompts repeat is one of rollouts, not of questions."""
    parts = list(groups)
    prompts = {question.prompt for question, _, _ in parts}
    if column and len(prompts) < len(parts) and all(len(rows) == 1 for _, _, rows in parts):
        raise SpecError(
            f"{file}: '{column}' is another one in each of {len(parts)} rows although prompts repeat, so it names "
            "rollouts, not questions. Rename that column; rows with equal prompts are then one group."
        )


def _read_row(row: dict[str, Any], number: int, place: str) -> GivenRow:
    ids = next((row[name] for name in _IDS if row.get(name) is not None), None)
    text = row.get("response")
    if ids is None and not isinstance(text, str):
        raise SpecError(f"{place}: expected 'response' (text) or {' or '.join(_IDS)}, found {text!r:.60}.")
    if ids is not None:
        if not isinstance(ids, list) or not all(type(value) is int and value >= 0 for value in ids):
            raise SpecError(f"{place}: token ids have to be a list of whole numbers from 0, found {ids!r:.60}.")
        text = None
    if not (text or ids):
        raise SpecError(f"{place}: the response is empty. Leave such rows out, or give the token that ended it as ids.")
    logprobs = _read_logprobs(row.get("logprobs"), place)
    if logprobs is not None and ids is not None and len(logprobs) != len(ids):
        raise SpecError(f"{place}: {len(logprobs)} logprobs for {len(ids)} token ids.")
    return GivenRow(
        number,
        text,
        None if ids is None else tuple(ids),
        _read_reward(row, place),
        _read_truncated(row, place),
        logprobs,
    )


def _read_reward(row: dict[str, Any], place: str) -> float:
    name = next((name for name in _REWARDS if row.get(name) is not None), None)
    value = row.get(name) if name else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(f"{place}: expected a number as {' or '.join(_REWARDS)}, found {value!r:.60}.")
    return float(value)


def _read_truncated(row: dict[str, Any], place: str) -> bool | None:
    given = row.get("truncated")
    if given is not None and not isinstance(given, bool):
        raise SpecError(f"{place}: 'truncated' has to be true or false, found {given!r:.60}.")
    reason = row.get("finish_reason")
    return given if given is not None else (None if reason is None else reason == "length")


def _read_logprobs(value: object, place: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers: Sequence[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(number, int | float) and math.isfinite(number) and number <= 1e-3 for number in numbers):
        raise SpecError(f"{place}: 'logprobs' has to be a list of natural logarithms, all <= 0, found {value!r:.60}.")
    return tuple(float(number) for number in numbers)
