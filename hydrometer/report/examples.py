"""A few counted rollouts through each candidate, so that a reader sees what its success rate is made of.

A base or branch rollout goes through a candidate of a path where its first `position` tokens equal the path's, the
next one is the candidate, and no more than `position + 1` of its tokens were forced: the rule of the visits.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydrometer.report.visible import visible_text

COUNTED = ("base", "branch")
PER_OUTCOME = 2
"""Rollouts of a candidate that are shown, correct and incorrect ones each."""
TEXT_CHARACTERS = 1200
Row = Mapping[str, Any]


class Examples:
    """The rollouts of one question that the page shows, each stored once."""

    def __init__(self, rollouts: Iterable[Row], continuation: str):
        model = continuation
        self._counted = [row for row in rollouts if row["kind"] in COUNTED and row["model"] == model]
        self._places: dict[int, int] = {}
        self.texts: list[list[Any]] = []
        """Text, whether it is correct, its kind, whether it was cut off."""

    def of_path(
        self, token_ids: Sequence[int], wanted: Mapping[int, Sequence[int]]
    ) -> dict[tuple[int, int], list[int]]:
        """Places in `texts` by (position, token_id), for the candidates `wanted` at each position."""
        found: dict[tuple[int, int], list[Row]] = {}
        for row in self._counted:
            ids = row["token_ids"] or []
            shared = shared_tokens(ids, token_ids)
            for position in range(max((row["forced_tokens"] or 0) - 1, 0), min(shared, len(ids) - 1) + 1):
                if ids[position] in wanted.get(position, ()):
                    found.setdefault((position, ids[position]), []).append(row)
        return {key: [self._place(row) for row in _few(rows)] for key, rows in found.items()}

    def truncate(self, size: int) -> None:
        """Forget the texts from `size` on."""
        del self.texts[size:]
        self._places = {key: place for key, place in self._places.items() if place < size}

    def _place(self, row: Row) -> int:
        key = row["rollout_id"]
        if key not in self._places:
            self._places[key] = len(self.texts)
            text = visible_text(row["text"] or "", TEXT_CHARACTERS)
            self.texts.append([text, row["correct"], row["kind"], row["truncated"]])
        return self._places[key]


def shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two responses begin with in common."""
    for place, (a, b) in enumerate(zip(first, second)):  # noqa: B905 - of unlike lengths
        if a != b:
            return place
    return min(len(first), len(second))


def _few(rows: Sequence[Row]) -> list[Row]:
    """Correct and incorrect ones, the earliest sampled first: candidates then share the rollouts they show."""
    ordered = sorted(rows, key=lambda row: row["rollout_id"])
    return [
        row for outcome in (True, False) for row in [row for row in ordered if row["correct"] is outcome][:PER_OUTCOME]
    ]
