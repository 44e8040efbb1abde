"""A model that is right with a known probability on every question: its first letter decides, y or n."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import hydrometer
from hydrometer.evaluation.run import Evaluation
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score

TOKENS = ("y", "n", "<eos>")
LIMIT = 4
SHORT = 3
"""A response of fewer letters has the form that is asked for."""
RATES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.9)
"""Of question i, i modulo their number."""


def rate(number: int) -> float:
    return RATES[number % len(RATES)]


def build_coin(shift: float = 0.0, *, name: str = "coin") -> ScriptedModel:
    """Right with probability `rate(question) + shift`; after the first letter it ends with probability 0.6."""

    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        if response:
            return np.array([0.1, 0.3, 0.6])
        right = min(max(rate(int(bytes(prompt).decode().split()[-1])) + shift, 0.0), 1.0)
        return np.array([right, 1.0 - right, 0.0])

    return ScriptedModel(TOKENS, probs, name=name)


class CoinTask:
    """Strict: the first letter is y and the response short. Relaxed: the first letter is y. All n: not read."""

    name = "coins"

    def __init__(self, count: int = 12, *, splits: Sequence[str] = ("test",)):
        self.count = count
        self.splits = splits

    def questions(self, split: str) -> Sequence[Question]:
        if split not in self.splits:
            return []
        return [Question(f"c{i:03d}", self.name, (Message("user", f"coin {i}"),), "y") for i in range(self.count)]

    def verify(self, question: Question, response: str) -> Grades:
        right, parsed = response.startswith("y"), "y" in response
        strict = right and len(response) < SHORT
        return Grades(Score(float(strict), strict, parsed), Score(float(right), right, parsed))


def run_coins(**options: Any) -> Evaluation:
    named: dict[str, Any] = {"model": build_coin(), "task": CoinTask(), "samples": 6, "max_response_tokens": LIMIT}
    return hydrometer.evaluate(**(named | options))
