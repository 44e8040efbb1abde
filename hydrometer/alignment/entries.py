"""Estimates as they stand in `summary.json`: finite or null with a reason, and an interval or the reason for none."""

import math
from typing import Any

import numpy as np

from hydrometer.alignment.intervals import MIN_QUESTIONS, Jackknife

FEW_QUESTIONS = "fewer_than_5_questions"
UNDEFINED_LEAVE_ONE_OUT = "undefined_without_one_question"
NO_VALUE = "no_value"


def finite(value: float | np.ndarray) -> float | None:
    """A number of a file: null instead of NaN and infinity."""
    number = float(value)
    return number if math.isfinite(number) else None


def interval_of(low: float | np.ndarray, high: float | np.ndarray) -> list[float] | None:
    """Both ends, or null unless both are finite."""
    low, high = float(low), float(high)
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None


def why_no_interval(value: float | None, n_questions: int) -> str:
    """The reason of a missing interval over questions."""
    if value is None:
        return NO_VALUE
    return FEW_QUESTIONS if n_questions < MIN_QUESTIONS else UNDEFINED_LEAVE_ONE_OUT


def describe(result: Jackknife, place: tuple[int, ...] = (), *, reason: str = NO_VALUE) -> dict[str, Any]:
    """One estimate with its interval over questions; `reason` is that of a value that is undefined."""
    value = finite(result.value[place])
    n_questions = int(result.n_questions[place])
    interval = interval_of(result.low[place], result.high[place])
    return {
        "value": value,
        "interval": interval,
        "n_questions": n_questions,
        "reason": None if value is not None else reason,
        "interval_reason": None if interval else why_no_interval(value, n_questions),
    }
