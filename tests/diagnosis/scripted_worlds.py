"""A world small enough to enumerate: a scripted student whose success rates are known exactly at every prefix.

Responses are at most four of a, b, c and then the end. Whether one is right depends on its question; how likely a token
is depends on the question and on what came before.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hydrometer
import hydrometer.diagnosis.run as run_module
from hydrometer.artifacts import write_text
from hydrometer.report import REPORT
from hydrometer.results import Diagnosis
from hydrometer.sampling import ScriptedModel
from hydrometer.success.enumeration import Limits, enumerate_success
from hydrometer.types import Grades, Message, Question, Score

TOKENS = ("a", "b", "c", "<eos>")
EOS = 3
LENGTH = 5
LIMITS = Limits(eos_ids=frozenset({EOS}), max_tokens=LENGTH, bound=1e-9)
TINY: dict[str, Any] = {"questions": 3, "rollouts": 8, "paths": 1, "visits": 4, "min_visits": 4}
"""Options of a run of a second."""


def leave_plain_reports(patched: pytest.MonkeyPatch) -> None:
    """Let runs end with a report that costs nothing but is written like one."""
    patched.setattr(run_module, "end_with_report", lambda folder, tell: write_text(folder / REPORT, "report"))


def question_number(prompt: tuple[int, ...]) -> int:
    """The number in a prompt that begins with "user: question N"."""
    return int(bytes(prompt).decode().split()[2])


@cache
def student_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    if len(response) == LENGTH - 1:
        return np.array([0.0, 0.0, 0.0, 1.0])
    number = question_number(prompt)
    logits = np.array([0.4, 0.2, -0.2, -1.5 + 0.3 * len(response)])
    logits[(number + sum(response)) % 3] += 0.7
    logits[(len(response) + 2 * number) % 3] -= 0.4
    weights = np.exp(logits)
    return weights / weights.sum()


def is_right(number: int, text: str) -> bool:
    """Enough points: the letters are worth 2, 1, 0 in an order that turns with the question."""
    worth = {letter: (2, 1, 0)[(i + number) % 3] for i, letter in enumerate("abc")}
    return sum(worth[letter] for letter in text) + (text[:1] == "b") >= 4


@cache
def success_of(prompt: tuple[int, ...], response: tuple[int, ...]) -> float:
    """Exact probability that the student ends right from here."""

    def next_logprobs(prefixes: list[tuple[int, ...]]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.stack([student_probs(prompt, prefix) for prefix in prefixes]))

    def verify(ids: tuple[int, ...], truncated: bool) -> bool:
        return is_right(question_number(prompt), "".join(TOKENS[i] for i in ids if i != EOS))

    found = enumerate_success(next_logprobs, verify, LIMITS, prefix=response)
    return 0.5 * (found.low + found.high)


class LetterTask:
    """`count` questions; `answer` of every one is a text that nothing depends on."""

    def __init__(self, count: int = 12, *, name: str = "letters", answer: str | None = "right"):
        self.name = name
        self.count = count
        self.answer = answer or ""

    def questions(self, split: str) -> Sequence[Question]:
        prompt = "question {}"
        return [
            Question(f"q{i:02d}", self.name, (Message("user", prompt.format(i)),), self.answer)
            for i in range(self.count)
        ]

    def verify(self, question: Question, response: str) -> Grades:
        right = is_right(int(question.question_id[1:]), response)
        return Grades.same(Score(float(right), right, True))


def build_student() -> ScriptedModel:
    return ScriptedModel(TOKENS, student_probs, name="letters-student")


def build_planted(strength: float) -> ScriptedModel:
    """The teacher p exp(b S) / Z, with S the student's exact success rate after each token."""

    @cache
    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        p = student_probs(prompt, response)
        rates = [success_of(prompt, (*response, token)) if p[token] > 0 else 0.0 for token in range(len(TOKENS))]
        weights = p * np.exp(strength * np.array(rates))
        return weights / weights.sum()

    return ScriptedModel(TOKENS, probs, name=f"planted {strength:+g}")


def run_world(out: Path, **options: Any) -> Diagnosis:
    """A diagnosis of this world through the front door."""
    named = {"student": build_student(), "task": LetterTask(), "teacher": {"planted": build_planted(2.0)}} | options
    return hydrometer.diagnose(out=out, **named)
