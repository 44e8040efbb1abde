"""A teacher's answers to the train split as a file to imitate (`--sft-from`), filtered."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from hydrometer.artifacts import write_json, write_text
from hydrometer.errors import SpecError
from hydrometer.evaluation.config import EvaluateConfig
from hydrometer.evaluation.run import run_evaluation
from hydrometer.evaluation.setup import build_examination
from hydrometer.recipes.filters import refuse_answer
from hydrometer.runs.progress import Progress
from hydrometer.types import Question

ANSWERS = "answers.jsonl"


def collect_answers(
    out: Path,
    options: Mapping[str, Any],
    *,
    mark: str = "",
    only_correct: bool = False,
    resume: bool = False,
    progress: Progress,
) -> dict[str, Any]:
    """Let a model answer and write what may be imitated to `answers.jsonl` (prompt, response), beside the evaluation.

    Args:
        out: run folder of the evaluation that this is.
        options: fields of `EvaluateConfig`; the split is `train` unless it says otherwise.
        mark: text that an answer has to hold.
        only_correct: keep correct answers only.
        resume: go on with the run in `out`.
        progress: told what happens.

    Returns:
        How many were written and kept, and why the others were not.

    Raises:
        UserError: see `evaluate`; also where no answer is kept.
    """
    examination = build_examination(EvaluateConfig(**{"split": "train", "samples": 1, **options}))
    table = run_evaluation(examination, out, resume=resume, progress=progress).table
    questions = {question.question_id: question for question in examination.questions}
    kept: list[str] = []
    refused: Counter[str] = Counter()
    for row in table.filter(pl.col("model") == "model").iter_rows(named=True):
        reason = _reason(row, mark=mark, only_correct=only_correct)
        if reason is None:
            kept.append(_render(questions[row["question_id"]], row["text"]))
        else:
            refused[reason] += 1
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
        raise SpecError(f"None of the {table.height} answers can be imitated ({told}).")
    write_text(out / ANSWERS, "".join(kept))
    found = {"written": table.height, "kept": len(kept), "refused": dict(sorted(refused.items()))}
    write_json(out / "collected.json", found)
    return found


def _reason(row: Mapping[str, Any], *, mark: str, only_correct: bool) -> str | None:
    if row["truncated"]:
        return "truncated"
    if only_correct and not row["correct"]:
        return "incorrect"
    return refuse_answer(row["text"], mark=mark)


def _render(question: Question, text: str) -> str:
    messages = [message._asdict() for message in question.prompt]
    return json.dumps({"prompt": messages, "response": text}, ensure_ascii=True) + "\n"
