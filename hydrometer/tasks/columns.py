"""From a row of a user's data to a `Question`. The columns are those of TRL where it has a name for something.

`prompt` (text or messages) goes to the model as it is; a bare `question` or `problem` gets a sentence that asks for a
marked final answer. `answer` is text or a number; `... #### 72` is taken apart into solution and answer.
"""

from typing import Any

from hydrometer.errors import SpecError, UserError
from hydrometer.tasks.verifiers.exact import normalise
from hydrometer.types import Message, Question

PROBLEM_COLUMNS = ("question", "problem")
_ROLES = ("system", "user", "assistant")
_MARK = "\n#### "
_FORM = {
    "exact": "Finish with a line 'Answer: X', where X is the answer alone.",
    "boolean": "Finish with 'Answer: yes' or 'Answer: no'.",
    "choice": "Finish with 'Answer: X', where X is the letter of the right choice.",
    "integer": "Finish with a line 'Answer: N', where N is the number alone.",
    "math": "Put your final answer within \\boxed{}.",
}
"""What a bare question ends with, by verifier."""
_VERIFIER_OF = {
    "exact": "exact",
    "string": "exact",
    "text": "exact",
    "boolean": "boolean",
    "choice": "choice",
    "integer": "integer",
    "math": "math",
    "latex": "math",
}
"""Values of the column `answer_type`."""


def build_question(
    row: dict[str, Any], place: str, *, question_id: str, task: str, verifier: str, needs_answer: bool = True
) -> Question:
    """One question; `place` says in errors where the row stands. Without `needs_answer` an absent answer is "".

    Raises:
        SpecError: a column is missing or cannot be used.
    """
    answer = _read_text(row, "answer", place)
    if answer is None and needs_answer:
        raise SpecError(f"{place}: the question has no answer (column 'answer': text or a number).")
    answer = answer or ""
    solution = _read_text(row, "solution", place) or _read_text(row, "privileged_context", place)
    if _MARK in answer:
        worked, _, answer = answer.rpartition(_MARK)
        solution = solution or worked
    wrong_answer = _read_text(row, "wrong_answer", place)
    if wrong_answer is not None and normalise(wrong_answer) == normalise(answer):
        raise SpecError(f"{place}: 'wrong_answer' is {wrong_answer!r}, which is the answer.")
    return Question(
        question_id,
        task,
        _build_prompt(row, place, verifier),
        answer.strip() if _MARK in str(row.get("answer")) else answer,
        solution,
        wrong_answer,
        _read_text(row, "teacher_id", place),
        None if row.get("prompt") is not None else _read_problem(row, place),
    )


def choose_verifier(answer_types: dict[str, str], given: str | None) -> str:
    """The verifier for rows of these answer types (type -> where it first stands), unless one is given.

    Raises:
        SpecError: an unknown type, or types that need different verifiers.
    """
    if given is not None:
        return given
    found: dict[str, str] = {}
    for name, place in answer_types.items():
        if name not in _VERIFIER_OF:
            raise SpecError(f"{place}: unknown answer_type {name!r}; expected one of {', '.join(_VERIFIER_OF)}.")
        found.setdefault(_VERIFIER_OF[name], place)
    if len(found) > 1:
        listed = ", ".join(f"{verifier} ({place})" for verifier, place in found.items())
        raise SpecError(f"The answer types need different verifiers: {listed}. Choose one for all with --verifier.")
    return next(iter(found), "exact")


def _read_text(row: dict[str, Any], column: str, place: str) -> str | None:
    """Text, or a number as text; None where the column is absent, null or blank."""
    value = row.get(column)
    if isinstance(value, dict | list):
        raise SpecError(f"{place}: column '{column}' has to be text or a number, found {value!r:.60}.")
    return None if value is None or not str(value).strip() else str(value)


def _build_prompt(row: dict[str, Any], place: str, verifier: str) -> tuple[Message, ...]:
    if row.get("prompt") is None and (problem := _read_problem(row, place)) is not None:
        form = _FORM.get(verifier)
        return (Message("user", f"{problem}\n\n{form}" if form else problem),)
    return _read_prompt(row.get("prompt"), place)


def _read_problem(row: dict[str, Any], place: str) -> str | None:
    found = (_read_text(row, column, place) for column in PROBLEM_COLUMNS)
    return next((problem.strip() for problem in found if problem is not None), None)


def _read_prompt(prompt: object, place: str) -> tuple[Message, ...]:
    if isinstance(prompt, str) and prompt.strip():
        return (Message("user", prompt),)
    if isinstance(prompt, list) and prompt:
        turns = [turn for turn in prompt if isinstance(turn, dict)]
        if len(turns) == len(prompt) and all(
            isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in turns
        ):
            return _check_turns(tuple(Message(turn["role"], turn["content"]) for turn in turns), place)
    raise _explain_prompt(prompt, place)


def _check_turns(messages: tuple[Message, ...], place: str) -> tuple[Message, ...]:
    strange = [message.role for message in messages if message.role not in _ROLES]
    if strange:
        raise SpecError(f"{place}: unknown role {strange[0]!r}; expected one of {', '.join(_ROLES)}.")
    if messages[-1].role != "user":
        raise SpecError(f"{place}: the last message of 'prompt' has role {messages[-1].role!r}, expected 'user'.")
    return messages


def _explain_prompt(prompt: object, place: str) -> UserError:
    others = "" if prompt is not None else f" (nor is there a column {' or '.join(PROBLEM_COLUMNS)})"
    return SpecError(
        f"{place}: 'prompt' has to be text or a list of {{role, content}} messages, found {prompt!r:.60}{others}."
    )
