r"""The published data sets: `mmlu`, `gsm8k`, `math500`, `aime2024`, `aime2025` (each also as `NAME:PATH`).

Rows of a published training set (`split` is `train` or `dev`) make up the split `train`; of the others a hash of the id
sends half to `diagnose` and half to `test`. Where nothing was published for training there is no `train`. The questions
of a split are in the order of another hash, so that the first few are of no single subject. A question that was
published twice stays in one split, test before diagnose before train.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.tasks.rows import (
    QuestionSet,
    Split,
    drop_repeated,
    find_data_file,
    hash_of,
    in_hashed_order,
    note_id,
    read_rows,
    split_held_out,
)
from hydrometer.tasks.verifiers.integer import WHOLE_NUMBER
from hydrometer.types import Message, Question

_LETTERS = "ABCDEFGHIJ"
_STEPS = (-1, 1, -2, 2, -10, 10, -3, 3)
"""What a slip adds to a whole number."""
_FOR_TRAINING = ("train", "dev")

_CHOICE_PROMPT = (
    "Answer the following multiple-choice question.\n\n{question}\n\n"
    "Think step by step, then finish with 'Answer: X', where X is the letter of the right choice."
)
_NUMBER_PROMPT = "{question}\n\nThink step by step, then finish with a line 'Answer: N', where N is the number alone."
_MATH_PROMPT = "{question}\n\nReason step by step, and put your final answer within \\boxed{{}}."
_AIME_PROMPT = (
    "{question}\n\nThe answer is a whole number from 0 to 999. Reason step by step, and put your final answer within "
    "\\boxed{{}}."
)


@dataclass(frozen=True, slots=True)
class _DataSet:
    files: tuple[str, ...]
    """Under HYDROMETER_DATA; the first has to be there."""
    verifier: str
    prompt: str
    """With `{question}`."""
    needs: str
    read: Callable[[dict[str, Any]], tuple[str, str, str | None] | None]
    """Problem, answer and wrong answer of a row; None where the row lacks something."""


def _read_choice(row: dict[str, Any]) -> tuple[str, str, str | None] | None:
    choices, answer = row.get("choices"), row.get("answer")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(_LETTERS) or not isinstance(answer, int):
        return None
    if isinstance(answer, bool) or not 0 <= answer < len(choices):
        return None
    listed = "\n".join(
        f"{letter}. {' '.join(str(choice).split())}" for letter, choice in zip(_LETTERS, choices, strict=False)
    )
    step = 1 + hash_of(str(row.get("id")), "wrong") % (len(choices) - 1)
    wrong = _LETTERS[(answer + step) % len(choices)]
    return f"{row['question'].strip()}\n\n{listed}", _LETTERS[answer], wrong


def _read_number(most: int | None = None) -> Callable[[dict[str, Any]], tuple[str, str, str] | None]:
    def read(row: dict[str, Any]) -> tuple[str, str, str] | None:
        answer = str(row.get("answer"))
        if not WHOLE_NUMBER.fullmatch(answer):
            return None
        return row["question"].strip(), answer, nearby(int(answer), str(row.get("id")), most)

    return read


def _read_math(row: dict[str, Any]) -> tuple[str, str, str | None] | None:
    answer = row.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        return None
    wrong = nearby(int(answer), str(row.get("id"))) if WHOLE_NUMBER.fullmatch(answer) else None
    return row["question"].strip(), answer, wrong


def nearby(value: int, key: str, most: int | None = None) -> str:
    """Another whole number that a slip could give: of the same sign, at most `most`, decided by `key`."""
    start = hash_of(key, "wrong")
    steps = [_STEPS[(start + shift) % len(_STEPS)] for shift in range(len(_STEPS))]
    fitting = [value + s for s in steps if (value + s < 0) == (value < 0) and (most is None or value + s <= most)]
    return str(fitting[0])


DATA_SETS = {
    "mmlu": _DataSet(
        ("mmlu_test_balanced2280.jsonl.gz", "mmlu_dev.jsonl"),
        "choice",
        _CHOICE_PROMPT,
        "question, choices (2 to 10) and answer (the number of the right choice, from 0)",
        _read_choice,
    ),
    "gsm8k": _DataSet(
        ("gsm8k_test.jsonl", "gsm8k_train.jsonl.gz"),
        "integer",
        _NUMBER_PROMPT,
        "question and answer (a whole number)",
        _read_number(),
    ),
    "math500": _DataSet(("math500.jsonl",), "math", _MATH_PROMPT, "question and answer (text)", _read_math),
    "aime2024": _DataSet(
        ("aime2024.jsonl",), "integer", _AIME_PROMPT, "question and answer (a whole number)", _read_number(999)
    ),
    "aime2025": _DataSet(
        ("aime2025.jsonl",), "integer", _AIME_PROMPT, "question and answer (a whole number)", _read_number(999)
    ),
}


def load_data_set(name: str, path: str | None) -> QuestionSet:
    """A data set from `path`, or from its files under HYDROMETER_DATA.

    Raises:
        SpecError: a file is missing, a row lacks something, or an id comes twice.
    """
    data_set = DATA_SETS[name]
    first = find_data_file(path, data_set.files[0], name)
    files = [
        first,
        *([] if path else [file for more in data_set.files[1:] if os.path.isfile(file := first.parent / more)]),
    ]
    splits: dict[Split, list[Question]] = {}
    for file in files:
        for split, question in _read_file(name, data_set, file):
            splits.setdefault(split, []).append(question)
    _check_apart(splits, name)
    return QuestionSet(
        name,
        {split: in_hashed_order(found) for split, found in drop_repeated(splits).items()},
        data_set.verifier,
        _explain_missing(name, data_set, first),
    )


def _read_file(name: str, data_set: _DataSet, file: Path) -> list[tuple[Split, Question]]:
    found: list[tuple[Split, Question]] = []
    seen: dict[str, int] = {}
    for number, row in read_rows(file):
        has_text = isinstance(row.get("question"), str) and bool(row["question"].strip())
        read = data_set.read(row) if has_text else None
        if read is None:
            raise SpecError(f"{file}, line {number}: a row of {name} needs {data_set.needs}.")
        problem, answer, wrong = read
        question_id = str(row.get("id") or f"{name}-{number:05d}")
        note_id(seen, question_id, number, file)
        solution = row.get("solution") if isinstance(row.get("solution"), str) else None
        prompt = (Message("user", data_set.prompt.format(question=problem)),)
        question = Question(question_id, name, prompt, answer, solution or None, wrong, problem=problem)
        split: Split = "train" if row.get("split") in _FOR_TRAINING else split_held_out(question_id)
        found.append((split, question))
    return found


def _check_apart(splits: dict[Split, list[Question]], name: str) -> None:
    ids = [question.question_id for found in splits.values() for question in found]
    if len(set(ids)) < len(ids):
        raise SpecError(f"Task '{name}': its files share ids; a question of the one would be trained on and tested.")


def _explain_missing(name: str, data_set: _DataSet, first: Path) -> str:
    if len(data_set.files) > 1:
        return f"Its training questions are expected in {first.parent / data_set.files[1]}."
    return f"{name} was made for testing; take questions to train on from another task, e.g. gsm8k."
