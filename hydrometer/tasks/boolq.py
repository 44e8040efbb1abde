"""BoolQ: a passage and a yes/no question.

Rows: `id`, `question`, `passage`, `answer` (true/false). A row's split is a hash of its id (train 50 %, diagnose 25 %,
test 25 %), so that it never depends on the order or the number of rows.
"""

import hashlib
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.tasks.rows import QuestionSet, Split, find_data_file, note_id, read_rows
from hydrometer.types import Message, Question

_PROBLEM = "Passage: {passage}\n\nQuestion: {question}?"
_PROMPT = (
    "Read the passage and answer the question.\n\n{problem}\n\n"
    "Explain in one short sentence, then finish with 'Answer: yes' or 'Answer: no'."
)


def load_boolq(path: str | None) -> QuestionSet:
    """BoolQ from `path`, or from `boolq_validation.jsonl.gz` under HYDROMETER_DATA.

    Raises:
        SpecError: the file is missing or a row lacks a field.
    """
    file = find_data_file(path, "boolq_validation.jsonl.gz", "boolq")
    splits: dict[Split, list[Question]] = {}
    seen: dict[str, int] = {}
    for number, row in read_rows(file):
        if not isinstance(row.get("answer"), bool) or not _has_text(row, "question") or not _has_text(row, "passage"):
            raise SpecError(f"{file}, line {number}: a BoolQ row needs question, passage and answer (true or false).")
        question = _build_question(row, number)
        note_id(seen, question.question_id, number, file)
        splits.setdefault(_split(question.question_id), []).append(question)
    return QuestionSet("boolq", {split: tuple(questions) for split, questions in splits.items()}, "boolean")


def _has_text(row: dict[str, Any], column: str) -> bool:
    return isinstance(row.get(column), str) and bool(row[column].strip())


def _build_question(row: dict[str, Any], number: int) -> Question:
    problem = _PROBLEM.format(passage=row["passage"], question=row["question"].strip().rstrip("? "))
    prompt = (Message("user", _PROMPT.format(problem=problem)),)
    answer, wrong = ("yes", "no") if row["answer"] else ("no", "yes")
    question_id = str(row.get("id") or f"boolq-{number}")
    return Question(question_id, "boolq", prompt, answer, wrong_answer=wrong, problem=problem)


def _split(question_id: str) -> Split:
    quarter = hashlib.blake2b(question_id.encode(), digest_size=1).digest()[0] >> 6
    return ("train", "train", "diagnose", "test")[quarter]
