"""What a run may spend at most: `200k tokens`, `5000 rollouts`, `10 minutes`."""

import re
from typing import NamedTuple

from hydrometer.errors import SpecError
from hydrometer.runs.rounds import Cost

_SCALE = {"k": 1e3, "m": 1e6}
_UNITS = {"token": "tokens", "rollout": "rollouts", "min": "minutes"}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(k|m)?\s*(token|rollout|min)(?:ute)?s?", re.IGNORECASE)


class Budget(NamedTuple):
    """An amount of something that a run pays with, over all its sittings."""

    amount: float
    unit: str
    """tokens (generated), rollouts or minutes (of work)."""

    def __str__(self) -> str:
        return f"{self.amount:,.10g} {self.unit}"

    def is_spent(self, cost: Cost) -> bool:
        """Whether nothing of it is left."""
        paid = {"tokens": cost.generated_tokens, "rollouts": cost.rollouts, "minutes": cost.wall_s / 60.0}
        return paid[self.unit] >= self.amount


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        SpecError: not a positive number with a known unit.
    """
    found = _FORM.fullmatch(text.strip())
    amount = float(found[1]) * _SCALE.get((found[2] or "").lower(), 1.0) if found else 0.0
    if found is None or amount <= 0.0:
        raise SpecError(f"Budget '{text}': expected tokens, rollouts or minutes, as in --budget '200k tokens'.")
    return Budget(amount, _UNITS[found[3].lower()])
