r"""Advice as files that trainers read: parquet keyed by question and prefix, and JSON lines with TRL's column names.

    write_advice(folder, Path("advice.parquet"))
    write_trl_rows(folder, Path("train.jsonl"))       prompt, teacher_id, privileged_context, question_id, choice

`teacher_id` is the recommended teacher, or another one for the questions where the diagnosis separates them
(`by_question`). Controls are never exported as teachers. `privileged_context` is what the teacher sees beyond the
student's prompt; TRL's template "{prompt}\n\n{privileged_context}" then gives back the teacher's user message.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from hydrometer.alignment.advice.by_question import QuestionChoice, choose_by_question
from hydrometer.alignment.advice.judge import chosen_arm
from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.study import build_study
from hydrometer.artifacts import read_json, read_table, write_table, write_text
from hydrometer.errors import RunFolderError, UserError
from hydrometer.types import NO_TEACHER

CONTROLS = ("empty:", "wrong_answer")
"""Contexts that exist to be compared with; nobody should train with them."""
AGGREGATE = "aggregate:"
"""How the context of a teacher begins that is the mean over several."""
_LINE_ENDS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}
SEPARATED, RECOMMENDED, LEADING = "separated", "recommended", "leading"


class TrlExport(NamedTuple):
    """The rows, and the questions that have none."""

    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    """question_id -> why its teacher could not be shown its context."""


def write_advice(folder: Path, target: Path) -> pl.DataFrame:
    """Copy the rows of a run's advice that say more than `undecided`, keyed by question_id and prefix_ids.

    Two paths with one prefix give one row: where they disagree it is left out.

    Raises:
        RunFolderError: the run has no `advice.parquet`.
        DiskError: the disk refuses.
    """
    rows = agreed_advice(folder)
    write_table(target, rows)
    return rows


def agreed_advice(folder: Path) -> pl.DataFrame:
    """The rows that `write_advice` copies.

    Raises:
        RunFolderError: the run has no `advice.parquet`.
    """
    advice = read_table(folder / "advice.parquet").filter(pl.col("advice") != "undecided")
    keys = ["question_id", "prefix_ids"]
    agreed = advice.filter(pl.col("advice").n_unique().over(keys) == 1).unique(keys, keep="first", maintain_order=True)
    return agreed.select(*keys, "token_id", "teacher", "objective", "advice", "weight", "predicted_signal")


def write_trl_rows(folder: Path, target: Path) -> TrlExport:
    """Write one JSON line per question of a run (see `trl_rows`); tell the user what `left_out` holds.

    Raises:
        UserError: see `trl_rows`; also DiskError where the disk refuses.
    """
    export = trl_rows(folder)
    write_text(target, "".join(_json_line(row) for row in export.rows))
    return export


def _json_line(row: Mapping[str, Any]) -> str:
    """One line whatever a reader takes for a line end: the separators that JSON lets stand as they are escaped too."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def trl_rows(folder: Path) -> TrlExport:
    """Per question: prompt (messages), teacher_id, privileged_context (null without one), question_id, choice.

    Raises:
        UserError: nothing was measured, training with no teacher is recommended, or the teacher opens the assistant's
            turn, which TRL's columns cannot hold.
        RunFolderError: a file of the run is missing, damaged, or written by another version.
    """
    summary = read_json(folder / "summary.json")
    arm = _arm_to_export(summary, folder)
    questions, contexts = (_with_messages(folder, name) for name in ("questions", "contexts"))
    choices = _choose(folder, arm)
    shown = {(row["question_id"], row["teacher"]): row for row in contexts.iter_rows(named=True)}
    certain = LEADING if summary["recommendation"] is None else RECOMMENDED
    export = TrlExport([], {})
    for question, prompt in questions.select("question_id", "messages").iter_rows():
        choice = choices.get(question) or QuestionChoice(question, arm["teacher"], False)
        context = shown[question, choice.teacher]
        if context["skipped"]:
            export.left_out[question] = f"teacher '{choice.teacher}': {context['reason']}"
            continue
        export.rows.append(
            {
                "prompt": prompt,
                "teacher_id": choice.teacher,
                "privileged_context": privileged_context(prompt, context["messages"], choice.teacher),
                "question_id": question,
                "choice": SEPARATED if choice.is_separated else certain,
            }
        )
    return export


def choose_teachers(folder: Path) -> tuple[str, dict[str, str]]:
    """The teacher that a diagnosis chose overall, and those of the questions with a measured node.

    Raises:
        UserError: nothing was measured, or training with no teacher is recommended.
        RunFolderError: a file of the run is missing or damaged.
    """
    arm = _arm_to_export(read_json(folder / "summary.json"), folder)
    return arm["teacher"], {question: choice.teacher for question, choice in _choose(folder, arm).items()}


def _with_messages(folder: Path, name: str) -> pl.DataFrame:
    table = read_table(folder / f"{name}.parquet")
    if "messages" not in table.columns:
        raise RunFolderError(
            f"{folder / name}.parquet lacks the column messages, which the export needs. "
            "It was written by an older version; run the diagnosis again."
        )
    return table


def _choose(folder: Path, arm: Mapping[str, str]) -> dict[str, QuestionChoice]:
    """The teacher of every question with a measured node, among those that are no controls."""
    run = read_json(folder / "run.json")
    nodes, candidates, scores = (
        read_table(folder / f"{name}.parquet") for name in ("nodes", "candidates", "teacher_scores")
    )
    objectives = {name: ObjectiveInfo(key) for name, key in run["objectives"].items()}
    study = build_study(arm["continuation"], nodes, candidates, scores, objectives)
    default = next(
        own for own in study.arms if own.teacher == arm["teacher"] and arm["objective"] in (own.objective, *own.aliases)
    )
    usable = frozenset(
        name for name, entry in run["teachers"].items() if not entry["context"].startswith((*CONTROLS, AGGREGATE))
    )
    return {choice.question_id: choice for choice in choose_by_question(study, default, teachers=usable)}


def _arm_to_export(summary: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The recommended arm, else the leading one."""
    recommended = summary["recommendation"]
    if recommended is not None and recommended["teacher"] == NO_TEACHER:
        raise UserError(
            f"The diagnosis in {folder} recommends no teacher, so there is no teacher to export for any question.\n"
            f"It said: {recommended['sentence']}\nDiagnose other teachers or contexts."
        )
    arm = chosen_arm(summary)
    if arm is None:
        raise UserError(
            f"No arm of the diagnosis in {folder} has a score, so there is no teacher to export.\n{summary['verdict']}"
        )
    if read_json(folder / "run.json")["teachers"][arm["teacher"]]["context"].startswith(AGGREGATE):
        raise UserError(
            f"'{arm['teacher']}' leads in {folder}, the mean over several contexts, which no trainer can be given as "
            "one teacher. Export a diagnosis without it, or train with the context that it is the mean of."
        )
    return arm


def privileged_context(
    prompt: Sequence[Mapping[str, str]], messages: Sequence[Mapping[str, str]], teacher: str
) -> str | None:
    """What the teacher's messages say beyond the student's; null where they are the same.

    Raises:
        UserError: the teacher's messages open the assistant's turn.
    """
    if messages and messages[-1]["role"] == "assistant" and (not prompt or prompt[-1]["role"] != "assistant"):
        raise UserError(
            f"Teacher '{teacher}' is given the beginning of its own turn, which a column privileged_context cannot "
            "hold. Train with another context, or with hydrometer train."
        )
    own = {message["role"]: message["content"] for message in prompt}
    parts = []
    for message in messages:
        seen = own.get(message["role"], "")
        rest = message["content"].replace(seen, "", 1) if seen else message["content"]
        parts.append(rest.strip())
    return "\n\n".join(part for part in parts if part) or None
