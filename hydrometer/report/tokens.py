"""The nodes of one path as compact rows for the token view: candidates with both directions, and every arm's verdict.

    g_j = M w_j (S_j - sum_k w_k S_k),   d_j = M w_j (f_j - sum_k w_k f_k)   over kept candidates, w = p / M

recomputed here from nodes, candidates and teacher_scores, because the tables store lengths and products only.

State of a node: `unmeasured` (fewer than two kept candidates), `equal` (their success rates do not differ), `uncertain`
(the success intervals of all kept candidates share a point, so noise could turn the verdict around), `clear`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydrometer.report.visible import visible_token

MAX_CANDIDATES = 12
"""Candidates of a node that the page lists; kept ones come first."""
FIELD = "field:"
NODE_NUMBERS = ("kept_student_mass", "student_entropy_nats", "value", "success_gap")
SUCCESS = ("success_rate", "success_low", "success_high")
Row = Mapping[str, Any]
VERDICT = ("cosine", "signal", "advantage", "reverse_kl_nats", "direction_share")
"""Columns of an arm's verdict at a node, in the order they are embedded; a reason code may follow."""


class StringTable:
    """Token texts stored once each; a node refers to them by index."""

    def __init__(self) -> None:
        self.entries: list[list[str]] = []
        self._index: dict[str, int] = {}

    def index(self, token: str) -> int:
        """The place of a token's visible form."""
        if token not in self._index:
            self._index[token] = len(self.entries)
            self.entries.append(visible_token(token))
        return self._index[token]

    def truncate(self, size: int) -> None:
        """Forget the entries from `size` on."""
        del self.entries[size:]
        self._index = {token: index for token, index in self._index.items() if index < size}


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Four significant digits each; null stays null, what is not finite becomes null."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.4g}") for value in values]


def node_state(kept: Sequence[Row], *, eligible: bool) -> str:
    """How much the success rates of a node say."""
    if len(kept) < 2:
        return "unmeasured"
    if not eligible:
        return "equal"
    lows = [row["success_low"] for row in kept if row["success_low"] is not None]
    highs = [row["success_high"] for row in kept if row["success_high"] is not None]
    is_separated = bool(lows) and bool(highs) and max(lows) > min(highs)
    return "clear" if is_separated else "uncertain"


def centred(kept: Sequence[Row], values: Sequence[float | None]) -> list[float | None]:
    """M w_j (x_j - sum_k w_k x_k) for values x of the kept candidates; all null where one is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(kept) or len(kept) < 2:
        return [None] * len(kept)
    masses = [math.exp(row["student_logprob"]) for row in kept]
    mean = sum(mass * value for mass, value in zip(masses, known, strict=True)) / sum(masses)
    return [mass * (value - mean) for mass, value in zip(masses, known, strict=True)]


def build_node(
    node: Row,
    candidates: Sequence[Row],
    scores: Mapping[tuple[int, str], Row],
    verdicts: Mapping[tuple[str, str], Row],
    *,
    teachers: Sequence[str],
    arms: Sequence[tuple[str, str]],
    strings: StringTable,
) -> dict[str, Any]:
    """One node for the page.

    Args:
        node: a row of nodes.
        candidates: its rows of candidates.
        scores: its rows of teacher_scores by (token_id, teacher).
        verdicts: its rows of alignment (or token_scores) by (teacher, objective).
        teachers: order of the teacher probabilities.
        arms: order of directions and verdicts.
        strings: takes the token texts.
    """
    ordered = sorted(candidates, key=lambda row: -_probability(row["student_logprob"]))
    kept = [row for row in ordered if row["kept"]]
    kept_ids = [row["token_id"] for row in kept]
    ideal = dict(zip(kept_ids, centred(kept, [row["success_rate"] for row in kept]), strict=True))
    directions = [_arm_direction(kept, scores, teacher, objective) for teacher, objective in arms]
    shown = sorted(sorted(ordered, key=lambda row: not row["kept"])[:MAX_CANDIDATES], key=ordered.index)
    return {
        "token": strings.index(node["token"] or ""),
        "state": node_state(kept, eligible=bool(node["eligible"])),
        "reason": node["reason"],
        "numbers": rounded([node[column] for column in NODE_NUMBERS]),
        "hidden": len(ordered) - len(shown),
        "candidates": [
            [
                strings.index(row["token"] or ""),
                *rounded([_probability(row["student_logprob"]), *(row[column] for column in SUCCESS)]),
                row["visits"],
                int(bool(row["kept"])),
                int(row["token_id"] == node["token_id"]),
                *rounded([ideal.get(row["token_id"])]),
                rounded([_teacher_probability(scores.get((row["token_id"], teacher))) for teacher in teachers]),
                rounded([direction.get(row["token_id"]) for direction in directions]),
            ]
            for row in shown
        ],
        "arms": [_verdict(verdicts.get(arm)) for arm in arms],
    }


def _arm_direction(
    kept: Sequence[Row], scores: Mapping[tuple[int, str], Row], teacher: str, objective: str
) -> dict[int, float | None]:
    fields = [scores.get((row["token_id"], teacher), {}).get(FIELD + objective) for row in kept]
    return dict(zip((row["token_id"] for row in kept), centred(kept, fields), strict=True))


def _verdict(row: Row | None) -> list[Any] | None:
    if row is None:
        return None
    reason = row.get("reason")
    return [*rounded([row.get(column) for column in VERDICT]), *([reason] if reason else [])]


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(logprob)


def _teacher_probability(score: Row | None) -> float | None:
    return None if score is None or score["teacher_logprob"] is None else math.exp(score["teacher_logprob"])
