"""Which paths a page carries: as many as fit its size, first one of each question, incorrect and correct in turn.

Everything that is left out is counted, so that the page can say so.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import polars as pl

from hydrometer.artifacts import build_table
from hydrometer.report.arms import arm_key, arm_label
from hydrometer.report.files import RunFiles
from hydrometer.report.tokens import SUCCESS, StringTable, build_node, rounded
from hydrometer.report.visible import visible_ends, visible_text
from hydrometer.report.words import reason_in_words
from hydrometer.types import STUDENT

DATA_BYTES = 2_300_000
"""Of the embedded data; with the rest of the page it stays below 3 MB."""
PROMPT_CHARACTERS = 3000
FEWEST_PROMPT_CHARACTERS = 400
PROMPTS_SHARE = 0.3
"""Of the bytes, for what teachers saw; with many questions and teachers each prompt is cut down."""
ANSWER_CHARACTERS = 300
ADVICE = ("train", "skip", "undecided")
_FULL = 0.9
"""Share of the bytes from which no further path is tried: building one only to drop it costs time."""
_PATH = ["question_id", "rollout_id"]
Json = dict[str, Any]
PathKey = tuple[str, int, str]
"""question_id, rollout_id, continuation."""


@dataclass(frozen=True, slots=True)
class TokenTables:
    """The rows of each path, looked up by path."""

    nodes: Mapping[tuple[Any, ...], pl.DataFrame]
    candidates: Mapping[tuple[Any, ...], pl.DataFrame]
    teacher_scores: Mapping[tuple[Any, ...], pl.DataFrame]
    alignment: Mapping[tuple[Any, ...], pl.DataFrame]
    token_scores: Mapping[tuple[Any, ...], pl.DataFrame]
    advice: Mapping[tuple[Any, ...], pl.DataFrame]


def build_token_view(files: RunFiles, *, data_bytes: int = DATA_BYTES) -> Json:
    """Strings, teachers, arms, whom the advice is for, questions with their paths, and how many paths were left out."""
    arms = _arms(files)
    teachers = list(dict.fromkeys(teacher for teacher, _ in arms))
    tables = _partition(files)
    strings = StringTable()
    questions: dict[str, Json] = {}
    order = order_paths(files)
    used = left_out = 0
    limit = _prompt_limit(files, data_bytes)
    for key in order:
        if used > _FULL * data_bytes:
            left_out += 1
            continue
        strings_before = len(strings.entries)
        question = questions.get(key[0]) or _question(files, key[0], limit)
        path = _path(tables, key, _outcome(files, key), teachers=teachers, arms=arms, strings=strings)
        size = _size(path) + _size(strings.entries[strings_before:]) + _size(question) * (key[0] not in questions)
        if used + size > data_bytes:
            strings.truncate(strings_before)
            left_out += 1
            continue
        used += size
        questions.setdefault(key[0], question)["paths"].append(path)
    for question in questions.values():
        question["paths"].sort(key=lambda path: (path["id"], path["continuation"]))
    return {
        "strings": strings.entries,
        "teachers": [visible_text(teacher) for teacher in teachers],
        "arms": [[visible_text(name) for name in arm] for arm in arms],
        "reasons": _reasons(files),
        "advice": {"names": list(ADVICE), "arm": _advised_arm(files)},
        "questions": [questions[name] for name in sorted(questions)],
        "paths": len(order),
        "left_out": left_out,
    }


def order_paths(files: RunFiles) -> list[PathKey]:
    """Every analysed path once, most wanted first: round by round over the questions, informative questions first."""
    measured = pl.col("kept_candidates").ge(2).sum().alias("measured")
    frame = (
        files.nodes.group_by(*_PATH, "continuation")
        .agg(measured, pl.col("path_correct").first())
        .join(files.questions.select("question_id", "informative"), on="question_id", how="left")
        .sort(pl.col("informative").fill_null(value=False).not_(), "question_id", "rollout_id", "continuation")
    )
    by_question: dict[str, tuple[list[PathKey], list[PathKey]]] = {}
    for row in frame.iter_rows(named=True):
        key = (row["question_id"], row["rollout_id"], row["continuation"])
        by_question.setdefault(row["question_id"], ([], []))[bool(row["path_correct"])].append(key)
    turns = [_in_turn(*outcomes) for outcomes in by_question.values()]
    return [key for rnd in zip_longest(*turns) for key in rnd if key is not None]


def _in_turn(first: Sequence[PathKey], second: Sequence[PathKey]) -> list[PathKey]:
    return [key for pair in zip_longest(first, second) for key in pair if key is not None]


def _arms(files: RunFiles) -> list[tuple[str, str]]:
    pairs = pl.concat([frame.select("teacher", "objective") for frame in (files.alignment, files.token_scores)])
    return [(teacher, objective) for teacher, objective in pairs.unique().sort("teacher", "objective").iter_rows()]


def _reasons(files: RunFiles) -> dict[str, str]:
    codes = pl.concat([files.alignment["reason"], files.nodes["reason"]]).drop_nulls().unique().sort()
    return {code: visible_text(reason_in_words(code), ANSWER_CHARACTERS) for code in codes}


def _partition(files: RunFiles) -> TokenTables:
    advice = build_table("advice", []) if files.advice is None else files.advice
    tables = (files.nodes, files.candidates, files.teacher_scores, files.alignment, files.token_scores, advice)
    return TokenTables(*(frame.partition_by(_PATH, as_dict=True, include_key=False) for frame in tables))


def _rows(
    tables: Mapping[tuple[Any, ...], pl.DataFrame], key: PathKey, *, by_continuation: bool
) -> dict[int, list[dict[str, Any]]]:
    frame = tables.get(key[:2])
    grouped: dict[int, list[dict[str, Any]]] = {}
    if frame is None:
        return grouped
    if by_continuation:
        frame = frame.filter(pl.col("continuation") == key[2])
    for row in frame.iter_rows(named=True):
        grouped.setdefault(row["position"], []).append(row)
    return grouped


def _path(
    tables: TokenTables,
    key: PathKey,
    outcome: Json,
    *,
    teachers: Sequence[str],
    arms: Sequence[tuple[str, str]],
    strings: StringTable,
) -> Json:
    nodes = _rows(tables.nodes, key, by_continuation=True)
    candidates = _rows(tables.candidates, key, by_continuation=True)
    scores = _rows(tables.teacher_scores, key, by_continuation=False)
    alignment = _rows(tables.alignment, key, by_continuation=True)
    token_scores = _rows(tables.token_scores, key, by_continuation=False)
    advice = _rows(tables.advice, key, by_continuation=True)
    rows = []
    for position in sorted(nodes):
        verdicts = _by_arm(token_scores.get(position, [])) | _by_arm(alignment.get(position, []))
        teacher_rows = {(row["token_id"], row["teacher"]): row for row in scores.get(position, [])}
        node = nodes[position][0]
        built = build_node(
            node,
            candidates.get(position, []),
            teacher_rows,
            verdicts,
            teachers=teachers,
            arms=arms,
            strings=strings,
        )
        rows.append(built | _advice(advice.get(position, [])))
    return {"id": key[1], "continuation": "" if key[2] == STUDENT else visible_text(key[2]), **outcome, "nodes": rows}


def _advice(rows: Sequence[Mapping[str, Any]]) -> Json:
    """Place in `ADVICE`, predicted signal and its standard error; empty where the node is in no advice."""
    if not rows:
        return {}
    numbers = rounded([rows[0]["predicted_signal"], rows[0]["predicted_error"]])
    return {"advice": [ADVICE.index(rows[0]["advice"]), *numbers]}


def _advised_arm(files: RunFiles) -> str | None:
    """The arm that the advice is for; null where a run has none."""
    if files.advice is None or files.advice.is_empty():
        return None
    return visible_text(arm_label(arm_key(files.advice.row(0, named=True))))


def _by_arm(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(row["teacher"], row["objective"]): row for row in rows}


def _outcome(files: RunFiles, key: PathKey) -> Json:
    rows = files.rollouts.filter((pl.col("question_id") == key[0]) & (pl.col("rollout_id") == key[1]))
    if rows.is_empty():
        return {"correct": None, "truncated": None}
    return {"correct": rows["correct"][0], "truncated": rows["truncated"][0]}


def _prompt_limit(files: RunFiles, data_bytes: int) -> int:
    """Characters of a teacher's prompt that all questions and teachers together leave room for."""
    fitting = int(PROMPTS_SHARE * data_bytes / max(files.contexts.height, 1))
    return min(max(fitting, FEWEST_PROMPT_CHARACTERS), PROMPT_CHARACTERS)


def _question(files: RunFiles, question_id: str, prompt_limit: int) -> Json:
    """One question, and what every teacher saw of it; a prompt that several teachers saw stands there once."""
    rows = files.questions.filter(pl.col("question_id") == question_id).to_dicts()
    row = rows[0] if rows else {}
    contexts = files.contexts.filter(pl.col("question_id") == question_id).sort("teacher")
    prompts = contexts["prompt"].drop_nulls().unique(maintain_order=True).to_list()
    return {
        "id": visible_text(question_id, ANSWER_CHARACTERS),
        "prompt": visible_text(row.get("prompt") or "", PROMPT_CHARACTERS),
        "answer": visible_text(row.get("answer") or "", ANSWER_CHARACTERS),
        "rollouts": row.get("rollouts"),
        "correct": row.get("correct"),
        "success": rounded([row.get(column) for column in SUCCESS]),
        "prompts": [visible_ends(prompt, prompt_limit) for prompt in prompts],
        "contexts": {
            visible_text(context["teacher"]): _context(context, prompts) for context in contexts.iter_rows(named=True)
        },
        "paths": [],
    }


def _context(context: Mapping[str, Any], prompts: Sequence[str]) -> Json:
    """One teacher's view: place of its prompt, demonstrations and who wrote them, who summed up, why skipped."""
    return {
        "prompt": None if context["prompt"] is None else prompts.index(context["prompt"]),
        "demos": context["demo_rollout_ids"] or [],
        "by": visible_text(context["demos_by"] or "", ANSWER_CHARACTERS),
        "summariser": visible_text(context["summariser"] or "", ANSWER_CHARACTERS),
        "skipped": context["skipped"],
        "reason": visible_text(context["reason"] or "", ANSWER_CHARACTERS),
    }


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))
