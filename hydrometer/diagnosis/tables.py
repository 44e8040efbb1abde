"""From a finished measurement to the tables of the run folder (contract of columns: `artifacts.schemas`)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int64

from hydrometer.alignment import complete_nodes, compute_alignment
from hydrometer.alignment.nodes import COLUMNS
from hydrometer.artifacts import TABLES, build_table
from hydrometer.diagnosis.branches import pack, rollout_rows
from hydrometer.diagnosis.continuation import candidates_under
from hydrometer.diagnosis.in_context import list_context_rollouts
from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.rewards import REWARD_COLUMNS, average_rewards, log_ratio_rows
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.models import CausalModel
from hydrometer.success.candidates import CANDIDATE_KEY, add_success
from hydrometer.success.rates import jeffreys_interval
from hydrometer.success.tree import VISIT_SCHEMA
from hydrometer.teachers import PathScores, TeacherPrompt
from hydrometer.types import STUDENT, Grading, Message, Rollout

Tables = dict[str, pl.DataFrame]
_LISTED = (*CANDIDATE_KEY, "continuation", "token", "student_logprob", "student_rank")
"""Columns of `candidates` that are known before anything is counted."""
_BY_FIELD = ("field_mean", "full_norm_squared", "student_topk_mass", "teacher_topk_mass")
"""Columns of `token_scores` that depend on an objective's field."""


class Measured(NamedTuple):
    """What scores are computed from."""

    nodes: pl.DataFrame
    candidates: pl.DataFrame
    teacher_scores: pl.DataFrame
    visit_log: pl.DataFrame
    """One row per counted rollout at a path's node and token, with who continued it."""


def build_measured(instruments: Instruments, states: Sequence[QuestionState]) -> Measured:
    """Nodes and candidates of some questions under everyone who continues, and the teachers' scores there."""
    logs, candidates, nodes = [], [], []
    for name in instruments.continuations:
        here = [state for state in states if state.is_continued_by(name)]
        logs.append(_visit_log(here, name))
        candidates.append(_candidates(instruments, here, logs[-1], name))
        nodes.append(complete_nodes(_nodes(instruments, here, name), candidates[-1]))
    visit_log, listed = pl.concat(logs), pl.concat(candidates)
    by_student = visit_log.filter(continuation=STUDENT)
    return Measured(pl.concat(nodes), listed, _teacher_scores(instruments, states, listed, by_student), visit_log)


def _visit_log(states: Sequence[QuestionState], name: str) -> pl.DataFrame:
    log = pl.concat([pl.DataFrame(schema=VISIT_SCHEMA), *(state.continued[name].tree.visit_log() for state in states)])
    return log.with_columns(continuation=pl.lit(name))


def build_tables(instruments: Instruments, found: Measurement) -> tuple[Tables, pl.DataFrame]:
    """Every table by name, and the visit log. `rollouts` is without branches (see `pack_rollouts`)."""
    nodes, candidates, teacher_scores, visit_log = build_measured(instruments, found.states)
    token_scores = build_token_scores(instruments, found.states)
    names = [objective.name for objective in instruments.objectives]
    alignment = compute_alignment(nodes, candidates, teacher_scores, token_scores, objectives=names)
    tables = {
        "questions": build_table("questions", _questions(found.states, instruments.config.grading)),
        "rollouts": pl.concat([_rollouts(state, instruments.config.grading) for state in _ordered(found.states)]),
        "nodes": build_table("nodes", nodes),
        "candidates": build_table("candidates", candidates),
        "teacher_scores": build_table("teacher_scores", teacher_scores, extra=[f"field:{name}" for name in names]),
        "token_scores": build_table("token_scores", token_scores),
        "log_ratios": build_table("log_ratios", log_ratio_rows(found.states)),
        "contexts": build_table("contexts", _contexts(instruments, found.states)),
        "context_rollouts": build_table("context_rollouts", list_context_rollouts(found.states)),
        "alignment": build_table("alignment", alignment),
    }
    return tables, visit_log


def count_base(states: Sequence[QuestionState]) -> pl.DataFrame:
    """How many base rollouts every question has, and how many and what share of them are right."""
    base = [(state.question.question_id, state.of_kind("base")) for state in states]
    rows = [(question, len(rollouts), sum(rollout.correct for rollout in rollouts)) for question, rollouts in base]
    schema = {name: TABLES["questions"][name] for name in ("question_id", "rollouts", "correct")}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        success_rate=pl.col("correct") / pl.col("rollouts")
    )


def _questions(states: Sequence[QuestionState], grading: Grading) -> list[dict[str, Any]]:
    rows = []
    for state in states:
        base = state.of_kind("base")
        grades = state.grades_of("base")
        correct = sum(rollout.correct for rollout in base)
        low, high = jeffreys_interval(np.array([correct]), np.array([len(base)]))
        rows.append(
            {
                "question_id": state.question.question_id,
                "task": state.question.task,
                "prompt": "\n\n".join(message.content for message in state.question.prompt),
                "answer": state.question.answer,
                "rollouts": len(base),
                "correct": correct,
                "success_rate": correct / len(base),
                "success_low": float(low[0]),
                "success_high": float(high[0]),
                "informative": 0 < correct < len(base),
                "unparsed": sum(not g.under(grading).parsed for g in grades),
                "correct_strict": sum(g.strict.correct for g in grades),
                "correct_relaxed": sum(g.relaxed.correct for g in grades),
                "messages": _messages(state.question.prompt),
            }
        )
    return rows


def pack_rollouts(states: Sequence[QuestionState], grading: Grading) -> list[bytes]:
    """The table of all rollouts, a compressed file for each question, in its order."""
    return [
        pack(_rollouts(state, grading, [continued.rollouts.rows() for continued in state.continued.values()]))
        for state in _ordered(states)
    ]


def _ordered(states: Sequence[QuestionState]) -> list[QuestionState]:
    return sorted(states, key=lambda state: state.question.question_id)


def _rollouts(state: QuestionState, grading: Grading, more: Sequence[pl.DataFrame] = ()) -> pl.DataFrame:
    own = rollout_rows([(rollout, state.grades[id_]) for id_, rollout in state.rollouts.items()])
    return build_table("rollouts", pl.concat([own, *more]).with_columns(parsed=pl.col(f"parsed_{grading}")))


def _paths(states: Sequence[QuestionState]) -> Iterator[tuple[QuestionState, Rollout, PathScores]]:
    for state in states:
        for path in state.of_kind("path"):
            yield state, path, state.scores[path.rollout_id]


def _keys(path: Rollout, positions: np.ndarray) -> dict[str, Any]:
    return {"question_id": path.question_id, "rollout_id": path.rollout_id, "position": positions}


def _concat(parts: Sequence[Mapping[str, Any]], empty: Mapping[str, Any]) -> pl.DataFrame:
    """One frame of parts with the same columns: arrays and lists as long as `position`, or one value for all rows.

    Columns are joined first: thousands of small frames would take most of the time of a run's tables. Without any row
    the frame has the columns `empty`.
    """
    if not parts:
        return pl.DataFrame(schema=empty)
    part_of_row = np.repeat(np.arange(len(parts)), [len(part["position"]) for part in parts])
    return pl.DataFrame(
        {name: _joined([part[name] for part in parts], part_of_row) for name in parts[0]}, nan_to_null=True
    )


def _joined(values: Sequence[Any], part_of_row: Int64[np.ndarray, " row"]) -> np.ndarray | pl.Series:
    match values[0]:
        case np.ndarray():
            return np.concatenate(values)
        case list():
            return pl.Series([value for part in values for value in part])
    return pl.Series(values).gather(part_of_row)


def _token_texts(instruments: Instruments, token_ids: Iterable[Iterable[int]]) -> dict[int, str]:
    """The text of every token that occurs."""
    return {token_id: instruments.student.token_text(token_id) for token_id in set(chain.from_iterable(token_ids))}


def _nodes(instruments: Instruments, states: Sequence[QuestionState], continuation: str) -> pl.DataFrame:
    texts = _token_texts(instruments, (path.token_ids for _, path, _ in _paths(states)))
    return _concat(
        [
            {
                **_keys(path, np.arange(len(path.token_ids))),
                "continuation": continuation,
                "token_id": list(path.token_ids),
                "token": [texts[token_id] for token_id in path.token_ids],
                "path_correct": path.correct,
                "path_weight": 1.0,
                "node_weight": state.node_weights[path.rollout_id],
                "student_entropy_nats": scores.entropy,
            }
            for state, path, scores in _paths(states)
        ],
        {name: dtype for name, dtype in TABLES["nodes"].items() if name not in COLUMNS},
    )


def _candidates(
    instruments: Instruments, states: Sequence[QuestionState], visit_log: pl.DataFrame, continuation: str
) -> pl.DataFrame:
    """Under a teacher: at chosen nodes only."""
    texts = _token_texts(instruments, (scores.token_id.tolist() for _, _, scores in _paths(states)))
    threshold = instruments.config.candidate_threshold
    parts = []
    for state, path, scores in _paths(states):
        weights = state.node_weights[path.rollout_id][scores.position]
        here = candidates_under(continuation, scores, state.scored_teachers, threshold)
        if continuation != STUDENT:
            here &= weights > 0.0
        token_ids = scores.token_id[here]
        parts.append(
            {
                **_keys(path, scores.position[here]),
                "token_id": token_ids,
                "continuation": continuation,
                "token": [texts[token_id] for token_id in token_ids.tolist()],
                "student_logprob": scores.student_logprob[here],
                "student_rank": scores.student_rank[here],
                "node_weight": weights[here],
            }
        )
    empty = {name: TABLES["candidates"][name] for name in _LISTED} | {"node_weight": pl.Float64}
    listed = _concat(parts, empty)
    enough = (pl.col("visits") >= instruments.config.min_visits) & (pl.col("node_weight") > 0.0)
    return (
        add_success(listed, visit_log)
        .with_columns(kept=enough & pl.col("student_logprob").is_not_null())
        .drop("node_weight")
    )


def _teacher_scores(
    instruments: Instruments, states: Sequence[QuestionState], candidates: pl.DataFrame, visit_log: pl.DataFrame
) -> pl.DataFrame:
    fields = {f"field:{objective.name}": pl.Float64 for objective in instruments.scored_objectives}
    parts = [
        {
            **_keys(path, scores.position),
            "token_id": scores.token_id,
            "teacher": teacher,
            "teacher_logprob": scores.teacher_logprob[t],
            "teacher_rank": scores.teacher_rank[t],
            **dict(zip(fields, scores.field[t], strict=True)),
        }
        for state, path, scores in _paths(states)
        for t, teacher in enumerate(state.scored_teachers)
    ]
    # the field of an outcome objective is the student's own success rate; a token that nobody visited has none
    rates = candidates.filter(continuation=STUDENT).select(*CANDIDATE_KEY, "success_rate")
    rewards = average_rewards(states if instruments.needs_rewards else (), visit_log)
    measured = {"success_rates": pl.col("success_rate"), "reward_to_go": pl.col("reward_to_go")}
    return (
        _concat(parts, TABLES["teacher_scores"] | fields)
        .drop(REWARD_COLUMNS, strict=False)
        .join(rates, on=CANDIDATE_KEY, how="left")
        .join(rewards, on=[*CANDIDATE_KEY, "teacher"], how="left")
        .with_columns(measured[o.needs].alias(f"field:{o.name}") for o in instruments.objectives if o.needs in measured)
        .drop("success_rate")
    )


def build_token_scores(instruments: Instruments, states: Sequence[QuestionState]) -> pl.DataFrame:
    """Divergences of every teacher; what depends on a field is null for objectives whose field no teacher gives."""
    scored = {objective.name: place for place, objective in enumerate(instruments.scored_objectives)}
    names = [objective.name for objective in instruments.objectives]
    parts = []
    for state, path, scores in _paths(states):
        for t, teacher in enumerate(state.scored_teachers):
            for name in names:
                place = scored.get(name)
                unknown = np.full(len(path.token_ids), np.nan)
                parts.append(
                    {
                        **_keys(path, np.arange(len(path.token_ids))),
                        "teacher": teacher,
                        "objective": name,
                        "reverse_kl_nats": scores.reverse_kl[t],
                        "l2": scores.l2[t],
                        "distribution_cosine": scores.distribution_cosine[t],
                        "total_variation": scores.total_variation[t],
                        "teacher_entropy_nats": scores.teacher_entropy[t],
                        "overlap_ratio": scores.overlap_ratio[t],
                        "student_overlap_mass": scores.student_overlap_mass[t],
                        "teacher_overlap_mass": scores.teacher_overlap_mass[t],
                        **{key: unknown if place is None else getattr(scores, key)[t, place] for key in _BY_FIELD},
                    }
                )
    return _concat(parts, TABLES["token_scores"]).with_columns(pl.col(_BY_FIELD).cast(pl.Float64))


def _contexts(instruments: Instruments, states: Sequence[QuestionState]) -> list[dict[str, Any]]:
    rows = []
    for state in states:
        for teacher in instruments.teachers:
            prompt = state.prompts[teacher.name]
            skipped = prompt.reason is not None
            rows.append(
                {
                    "question_id": state.question.question_id,
                    "teacher": teacher.name,
                    "prompt": None
                    if skipped
                    else teacher.model.prompt_text(prompt.messages, assistant=prompt.assistant),
                    "demo_rollout_ids": list(prompt.demo_rollout_ids),
                    "demos_by": teacher.peer or (STUDENT if teacher.needs_demos else None),
                    "summariser": teacher.summariser,
                    "skipped": skipped,
                    "reason": prompt.reason,
                    "messages": _messages(prompt.messages, prompt.assistant),
                    "instances": _instances(teacher.model, prompt),
                }
            )
    return rows


def _instances(model: CausalModel, prompt: TeacherPrompt) -> list[dict[str, Any]] | None:
    """All that an aggregate is the mean of."""
    return [
        {"weight": one.weight, "prompt": model.prompt_text(one.messages, assistant=one.assistant)}
        for one in prompt.instances
    ] or None


def _messages(messages: Sequence[Message], assistant: str = "") -> list[dict[str, str]]:
    """Before the chat template; text that opens the assistant's turn comes last."""
    opened = [*messages, Message("assistant", assistant)] if assistant else messages
    return [message._asdict() for message in opened]
