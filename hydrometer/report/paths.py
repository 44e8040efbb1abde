"""Which paths a page carries: as many as fit its size, first one of each question, incorrect and correct in turn.

Everything that is left out is counted, so that the page can say so.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import polars as pl

from hydrometer.artifacts import build_table
from hydrometer.report.arms import arm_key, arm_label
from hydrometer.report.embedding import DeflatedSize
from hydrometer.report.examples import Examples
from hydrometer.report.files import RunFiles
from hydrometer.report.tokens import SUCCESS, StringTable, build_node, rounded_all, shown_candidates
from hydrometer.report.visible import visible_ends, visible_text
from hydrometer.report.words import reason_in_words
from hydrometer.types import STUDENT

DATA_BYTES = 2_200_000
"""Of the embedded token data, as it stands in the page (deflated, base64); with the rest it stays below 3 MB."""
PROMPT_CHARACTERS = 3000
FEWEST_PROMPT_CHARACTERS = 400
PROMPTS_SHARE = 0.3
"""Of the bytes, for what teachers saw; with many questions and teachers each prompt is cut down."""
ANSWER_CHARACTERS = 300
ADVICE = ("train", "skip", "undecided")
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
    rollouts: Mapping[tuple[Any, ...], list[dict[str, Any]]]
    """By question."""


def build_token_view(files: RunFiles, *, data_bytes: int = DATA_BYTES) -> Json:
    """Strings, teachers, arms, whom the advice is for, questions with their paths, and how many paths were left out."""
    arms = list_arms(files)
    teachers = list(dict.fromkeys(teacher for teacher, _ in arms))
    tables = _partition(files)
    strings = StringTable()
    questions: dict[str, Json] = {}
    examples: dict[tuple[str, str], Examples] = {}
    order = order_paths(files)
    size = DeflatedSize(data_bytes)
    left_out = 0
    limit = _prompt_limit(files, data_bytes)
    for key in order:
        if size.is_full:
            left_out += 1
            continue
        strings_before = len(strings.entries)
        question = questions.get(key[0]) or _question(files, key[0], limit)
        counted = examples.get((key[0], key[2])) or Examples(tables.rollouts.get((key[0],), []), key[2])
        texts_before = len(counted.texts)
        path = _path(tables, key, counted, teachers=teachers, arms=arms, strings=strings)
        added = [path, strings.entries[strings_before:], counted.texts[texts_before:]]
        if not size.take([*added, question] if key[0] not in questions else added):
            strings.truncate(strings_before)
            counted.truncate(texts_before)
            left_out += 1
            continue
        examples[key[0], key[2]] = counted
        questions.setdefault(key[0], question)["paths"].append(path)
    for (name, continuation), found in examples.items():
        questions[name]["texts"]["" if continuation == STUDENT else visible_text(continuation)] = found.texts
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


def list_arms(files: RunFiles) -> list[tuple[str, str]]:
    """Teacher and objective of every arm that was scored, in the order of the page."""
    pairs = pl.concat([frame.select("teacher", "objective") for frame in (files.alignment, files.token_scores)])
    return [(teacher, objective) for teacher, objective in pairs.unique().sort("teacher", "objective").iter_rows()]


def _reasons(files: RunFiles) -> dict[str, str]:
    codes = pl.concat([files.alignment["reason"], files.nodes["reason"]]).drop_nulls().unique().sort()
    return {code: visible_text(reason_in_words(code), ANSWER_CHARACTERS) for code in codes}


def _partition(files: RunFiles) -> TokenTables:
    advice = build_table("advice", []) if files.advice is None else files.advice
    rollouts = files.rollouts.partition_by("question_id", as_dict=True)
    return TokenTables(
        nodes=_by_path(files.nodes),
        candidates=_by_path(files.candidates),
        teacher_scores=_by_path(files.teacher_scores),
        alignment=_by_path(files.alignment),
        token_scores=_by_path(files.token_scores),
        advice=_by_path(advice),
        rollouts={key: frame.to_dicts() for key, frame in rollouts.items()},
    )


def _by_path(frame: pl.DataFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
    """By question, path and, in tables that have one, continuation."""
    names = [name for name in (*_PATH, "continuation") if name in frame.columns]
    return frame.partition_by(names, as_dict=True, include_key=False)


def _rows(tables: Mapping[tuple[Any, ...], pl.DataFrame], key: tuple[Any, ...]) -> dict[int, list[dict[str, Any]]]:
    """Rows by position."""
    frame = tables.get(key)
    grouped: dict[int, list[dict[str, Any]]] = {}
    for row in frame.iter_rows(named=True) if frame is not None else ():
        grouped.setdefault(row["position"], []).append(row)
    return grouped


def _path(
    tables: TokenTables,
    key: PathKey,
    counted: Examples,
    *,
    teachers: Sequence[str],
    arms: Sequence[tuple[str, str]],
    strings: StringTable,
) -> Json:
    nodes = _rows(tables.nodes, key)
    candidates = _rows(tables.candidates, key)
    scores = _rows(tables.teacher_scores, key[:2])
    alignment = _rows(tables.alignment, key)
    token_scores = _rows(tables.token_scores, key[:2])
    advice = _rows(tables.advice, key)
    drawn = next((row for row in tables.rollouts.get((key[0],), []) if row["rollout_id"] == key[1]), None)
    wanted = {
        position: [row["token_id"] for row in shown_candidates(candidates.get(position, []))]
        for position, (node, *_) in nodes.items()
        if (node["kept_candidates"] or 0) >= 2
    }
    shown = counted.of_path(drawn["token_ids"] or [], wanted) if drawn else {}
    rows = [
        build_node(
            nodes[position][0],
            candidates.get(position, []),
            {(row["token_id"], row["teacher"]): row for row in scores.get(position, [])},
            _by_arm(token_scores.get(position, [])) | _by_arm(alignment.get(position, [])),
            {token: places for (at, token), places in shown.items() if at == position},
            teachers=teachers,
            arms=arms,
            strings=strings,
        )
        | _advice(advice.get(position, []))
        for position in sorted(nodes)
    ]
    outcome = {name: drawn[name] if drawn else None for name in ("correct", "truncated")}
    before = _characters_before(
        drawn["text"] or "" if drawn else "", [nodes[position][0] for position in sorted(nodes)]
    )
    continuation = "" if key[2] == STUDENT else visible_text(key[2])
    return {"id": key[1], "continuation": continuation, **outcome, "before": before, "nodes": rows}


def _characters_before(text: str, nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """UTF-16 units of the response, as it is shown, before each token; 0 where the tokens do not spell its text."""
    found, spelled, units = [], 0, 0
    for node in nodes:
        found.append(units)
        token = node["token"] or ""
        if spelled < 0 or not text.startswith(token, spelled):
            spelled = -1
            units = 0
            continue
        spelled += len(token)
        units += _shown_units(token)
    return found


@functools.lru_cache(maxsize=4096)
def _shown_units(token: str) -> int:
    return len(visible_text(token).encode("utf-16-le")) // 2


def _advice(rows: Sequence[Mapping[str, Any]]) -> Json:
    """Place in `ADVICE`, predicted signal and its standard error; empty where the node is in no advice."""
    if not rows:
        return {}
    numbers = rounded_all([rows[0]["predicted_signal"], rows[0]["predicted_error"]])
    return {"advice": [ADVICE.index(rows[0]["advice"]), *numbers]}


def _advised_arm(files: RunFiles) -> str | None:
    """The arm that the advice is for; null where a run has none."""
    if files.advice is None or files.advice.is_empty():
        return None
    return visible_text(arm_label(arm_key(files.advice.row(0, named=True))))


def _by_arm(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(row["teacher"], row["objective"]): row for row in rows}


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
        "success": rounded_all([row.get(column) for column in SUCCESS]),
        "prompts": [visible_ends(prompt, prompt_limit) for prompt in prompts],
        "contexts": {
            visible_text(context["teacher"]): _context(context, prompts) for context in contexts.iter_rows(named=True)
        },
        "paths": [],
        "texts": {},
    }


def _context(context: Mapping[str, Any], prompts: Sequence[str]) -> Json:
    """One teacher's view: place of its prompt, demonstrations and who wrote them, who summed up, why skipped."""
    return {
        "prompt": None if context["prompt"] is None else prompts.index(context["prompt"]),
        "instances": len(context["instances"] or []),
        "demos": context["demo_rollout_ids"] or [],
        "by": visible_text(context["demos_by"] or "", ANSWER_CHARACTERS),
        "summariser": visible_text(context["summariser"] or "", ANSWER_CHARACTERS),
        "skipped": context["skipped"],
        "reason": visible_text(context["reason"] or "", ANSWER_CHARACTERS),
    }
