"""The scorer that reasoning-gym has for each of its tasks."""

from typing import Any

from hydrometer.tasks.reasoning_gym import find_entry
from hydrometer.tasks.verifiers.loading import check_score
from hydrometer.tasks.verifiers.marks import clean, tail
from hydrometer.types import Grades, Question, Score

_MARK = "answer:"
_OPEN, _CLOSE = "<answer>", "</answer>"


def verify_reasoning_gym(question: Question, response: str) -> Grades:
    """Strict: the package's score of what follows the last `Answer:`, or stands in the last `<answer>` tags.

    Relaxed: the best score of that, of it without markup, and of the last line. Only a full score is correct.
    """
    dataset, entry = find_entry(question)
    stated = _find_stated(response)
    strict = Score(0.0, False, False) if not stated else _score(dataset, entry, stated)
    others = {clean(text) for text in (stated or "", tail(response).rpartition("\n")[2])} - {"", stated}
    relaxed = max([strict, *(_score(dataset, entry, text) for text in sorted(others))], key=lambda score: score.value)
    return Grades(strict, relaxed._replace(parsed=strict.parsed or bool(others)))


def _find_stated(response: str) -> str | None:
    """The text after the last mark; it may have several lines, as some tasks ask for grids."""
    lower = response.lower()
    if len(lower) != len(response):  # some letters change their length; places would be off
        lower = response
    start, opened = lower.rfind(_MARK), lower.rfind(_OPEN)
    if opened > start:
        inside = response[opened + len(_OPEN) :]
        return inside.partition(_CLOSE)[0].strip()
    return response[start + len(_MARK) :].strip().strip("*").strip() if start >= 0 else None


def _score(dataset: Any, entry: dict[str, Any], answer: str) -> Score:
    value = min(1.0, max(0.0, float(dataset.score_answer(answer, entry))))
    return check_score(Score(value, value >= 1.0 - 1e-9, True))
