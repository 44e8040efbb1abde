"""The nodes of one path as compact rows for the token view: candidates with both directions, and every arm's verdict.

    g_j = M w_j (S_j - sum_k w_k S_k),   d_j = M w_j (f_j - sum_k w_k f_k)   over kept candidates, w = p / M

recomputed here from nodes, candidates and teacher_scores, because the tables store lengths and products only.

State of a node: `unmeasured` (fewer than two kept candidates), `equal` (their success rates do not differ), `measured`.

The sign of an arm at a measured node is certain where

    |g.d| > 1.96 sd(g.d),   g.d = sum_j c_j S_j,   c_j = p_j (d_j - sum_k w_k d_k),   sd^2 = sum_j c_j^2 sd(S_j)^2

with sd(S_j) the half width of the candidate's success interval over 1.96, so that a rate of 0 or 1 after a few visits
is not taken for a fact. Candidates that the student gives no probability decide nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydrometer.report.figures import rounded
from hydrometer.report.visible import visible_token

MAX_CANDIDATES = 12
"""Candidates of a node that the page lists; kept ones come first."""
FIELD = "field:"
NODE_NUMBERS = ("kept_student_mass", "student_entropy_nats", "value", "success_gap")
SUCCESS = ("success_rate", "success_low", "success_high")
Row = Mapping[str, Any]
VERDICT = ("cosine", "signal", "advantage", "direction_share")
"""Columns of an arm's verdict at a node, in order; 1 or 0 follows for a certain sign, and perhaps a reason code."""
TOKEN_DIGITS = 3
"""Significant digits of a number of a node: as many as the page prints."""


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


def rounded_all(values: Sequence[float | None]) -> list[float | None]:
    """Each with as many digits as the page prints; null stays null."""
    return [rounded(value, TOKEN_DIGITS) for value in values]


def node_state(kept: Sequence[Row], *, eligible: bool) -> str:
    """How much the success rates of a node say."""
    if len(kept) < 2:
        return "unmeasured"
    return "measured" if eligible else "equal"


def is_sign_certain(kept: Sequence[Row], direction: Sequence[float | None]) -> bool:
    """Whether the noise of the success rates could not turn the sign of g.d; False where anything is unknown."""
    values = [value for value in direction if value is not None]
    bounds = [[row[name] for name in SUCCESS] for row in kept]
    if len(values) < len(kept) or len(kept) < 2 or any(end is None for ends in bounds for end in ends):
        return False
    masses = [math.exp(row["student_logprob"]) for row in kept]
    mean = sum(mass * value for mass, value in zip(masses, values, strict=True)) / sum(masses)
    weights = [mass * (value - mean) for mass, value in zip(masses, values, strict=True)]
    product = sum(weight * rate for weight, (rate, _, _) in zip(weights, bounds, strict=True))
    spread = math.hypot(*(weight * (high - low) / 2 for weight, (_, low, high) in zip(weights, bounds, strict=True)))
    return abs(product) > spread


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
    examples: Mapping[int, Sequence[int]],
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
        examples: places of rollouts through it, by token_id.
        teachers: order of the teacher probabilities.
        arms: order of directions and verdicts.
        strings: takes the token texts.
    """
    kept = [row for row in candidates if row["kept"]]
    kept_ids = [row["token_id"] for row in kept]
    ideal = dict(zip(kept_ids, centred(kept, [row["success_rate"] for row in kept]), strict=True))
    directions = [_arm_direction(kept, scores, teacher, objective) for teacher, objective in arms]
    shown = shown_candidates(candidates)
    built = {
        "token": strings.index(node["token"] or ""),
        "state": node_state(kept, eligible=bool(node["eligible"])),
        "reason": node["reason"],
        "numbers": rounded_all([node[column] for column in NODE_NUMBERS]),
        "hidden": len(candidates) - len(shown),
        "kl": rounded_all([_divergence(verdicts, teacher) for teacher in teachers]),
        "candidates": [
            [
                strings.index(row["token"] or ""),
                *rounded_all([_probability(row["student_logprob"]), *(row[column] for column in SUCCESS)]),
                row["visits"],
                int(bool(row["kept"])),
                int(row["token_id"] == node["token_id"]),
                *rounded_all([ideal.get(row["token_id"])]),
                rounded_all([_teacher_probability(scores.get((row["token_id"], teacher))) for teacher in teachers]),
                rounded_all([direction.get(row["token_id"]) for direction in directions]) if row["kept"] else [],
                list(examples.get(row["token_id"], ())),
            ]
            for row in shown
        ],
    }
    found = [
        _verdict(verdicts.get(arm), certain=is_sign_certain(kept, list(direction.values())))
        for arm, direction in zip(arms, directions, strict=True)
    ]
    return built | ({"arms": found} if any(found) else {})


def shown_candidates(candidates: Sequence[Row]) -> list[Row]:
    """Those that the page lists, most likely first; where they are too many, kept ones go before likely ones."""
    ordered = sorted(candidates, key=lambda row: -_probability(row["student_logprob"]))
    return sorted(sorted(ordered, key=lambda row: not row["kept"])[:MAX_CANDIDATES], key=ordered.index)


def _arm_direction(
    kept: Sequence[Row], scores: Mapping[tuple[int, str], Row], teacher: str, objective: str
) -> dict[int, float | None]:
    fields = [scores.get((row["token_id"], teacher), {}).get(FIELD + objective) for row in kept]
    return dict(zip((row["token_id"] for row in kept), centred(kept, fields), strict=True))


def _verdict(row: Row | None, *, certain: bool) -> list[Any] | None:
    """None where the arm was not measured here; token_scores alone hold only divergences."""
    if row is None or "cosine" not in row:
        return None
    reason = row.get("reason")
    return [*rounded_all([row.get(column) for column in VERDICT]), int(certain), *([reason] if reason else [])]


def _divergence(verdicts: Mapping[tuple[str, str], Row], teacher: str) -> float | None:
    """KL(student || teacher) in nats; the same for every objective."""
    return next((row["reverse_kl_nats"] for (name, _), row in verdicts.items() if name == teacher), None)


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(logprob)


def _teacher_probability(score: Row | None) -> float | None:
    return None if score is None or score["teacher_logprob"] is None else math.exp(score["teacher_logprob"])
