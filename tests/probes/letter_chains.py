"""A world of known truth: responses of four letters, each good (g) or bad (b), right without any b.

Nothing can be repaired, so that from a prefix without b a writer is right with its probability of g to the power of the
letters that are left, and from any other prefix never.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hydrometer
from hydrometer.probes.run import Probe
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score

TOKENS = ("g", "b", "<eos>")
LENGTH = 4
LIMIT = LENGTH + 1
STUDENT_GOOD = 0.8
TEACHER_GOOD = 0.98


def build_writer(good: float, *, name: str) -> ScriptedModel:
    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        return np.array([0.0, 0.0, 1.0]) if len(response) >= LENGTH else np.array([good, 1.0 - good, 0.0])

    return ScriptedModel(TOKENS, probs, name=name)


class ChainTask:
    """Two b are no answer any more."""

    name = "letter chains"

    def __init__(self, count: int = 60):
        self.count = count

    def questions(self, split: str) -> Sequence[Question]:
        if split != "diagnose":
            return []
        return [Question(f"q{i:03d}", self.name, (Message("user", f"chain {i}"),), "g") for i in range(self.count)]

    def verify(self, question: Question, response: str) -> Grades:
        return Grades.same(Score(float("b" not in response), "b" not in response, response.count("b") < 2))


def run_chains(kind: str, *, count: int = 60, out: Path | None = None, **options: Any) -> Probe:
    named: dict[str, Any] = {
        "student": build_writer(STUDENT_GOOD, name="wavering"),
        "teacher": {"firm": build_writer(TEACHER_GOOD, name="firm")},
        "task": ChainTask(count),
        "questions": count,
        "max_response_tokens": LIMIT,
    }
    return hydrometer.probe(kind, out=out, **(named | options))
