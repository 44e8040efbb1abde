"""Exact success probabilities of small models, by enumerating responses: the oracle of `tree` and of path sums.

    low = probability of the finished responses that are correct,    high = 1 - probability of those that are not

Responses are expanded in order of probability, in batches, until high - low <= `bound`. A response is finished when it
ends with an end-of-sequence token or has `max_tokens` tokens (then it is truncated). Of the children of each expanded
prefix the least likely ones, together at most bound / (2 * max_tokens) of its probability, are never looked at; over
all depths that leaves out bound / 2 at most, and it keeps the frontier small. What is left out counts as undecided.

    enumerate_success(next_logprobs, verify, Limits(eos_ids=frozenset({0}), max_tokens=40), prefix=(5, 7))

What it gives is the success of whoever `next_logprobs` is: forced tokens may be continued by another model than the one
that wrote the prefix. `enumerate_path_sum` takes two: over prefixes that the student writes,

    E sum_t sum_v (q - p)(v) S(prefix, v)  =  J(teacher) - J(student),   S with the teacher continuing

(the performance-difference identity). It visits every response of either model, so it is for the smallest ones only.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from hydrometer.errors import UserError

TokenIds = tuple[int, ...]
NextLogprobs = Callable[[list[TokenIds]], Float64[np.ndarray, "prefix vocab"]]
"""Next-token logprobs (nats) after each response prefix, -inf allowed; rows sum to 1 in probability within 1e-4."""
Verify = Callable[[TokenIds, bool], bool]
"""Whether a finished response (end-of-sequence token included) is correct; the flag says that it was truncated."""


class SuccessBounds(NamedTuple):
    """What enumeration proved of a success probability."""

    low: float
    high: float
    expanded: int
    """Prefixes whose next-token distribution was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where responses end and where enumeration may stop."""

    eos_ids: frozenset[int]
    max_tokens: int
    """Of the whole response, prefix included."""
    bound: float = 1e-3
    """Widest allowed high - low."""
    max_expansions: int = 200_000
    batch_size: int = 256
    """Prefixes per call of the model."""

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            raise ValueError(f"Expected 0 < bound < 1, got {self.bound}.")


def enumerate_success(
    next_logprobs: NextLogprobs, verify: Verify, limits: Limits, *, prefix: TokenIds = ()
) -> SuccessBounds:
    """Bounds, at most `limits.bound` apart, of the probability that a response continued from `prefix` is correct.

    A prefix that is finished already gives equal bounds without an expansion.

    Raises:
        UserError: `max_expansions` prefixes do not suffice.
        ValueError: The model's rows are not distributions.
    """
    search = _Search(verify, limits)
    search.add(prefix, 1.0)
    expanded = 0
    while search.frontier and search.undecided > limits.bound:
        if expanded >= limits.max_expansions:
            raise UserError(
                f"Enumeration stopped after {expanded} prefixes with {search.undecided:.3g} of the probability\n"
                f"undecided; expected at most {limits.bound:g}. Raise max_expansions, loosen bound, or shorten\n"
                f"max_tokens ({limits.max_tokens})."
            )
        batch = search.most_likely(min(limits.batch_size, limits.max_expansions - expanded))
        rows = _probabilities(next_logprobs([ids for ids, _ in batch]), len(batch))
        expanded += len(batch)
        for (ids, mass), row in zip(batch, rows, strict=True):
            for token in _likely_tokens(row, limits.bound / (2 * limits.max_tokens)).tolist():
                search.add((*ids, token), mass * float(row[token]))
    return SuccessBounds(search.low, search.high, expanded)


def enumerate_token_success(
    next_logprobs: NextLogprobs, verify: Verify, limits: Limits, *, tokens: Iterable[int], prefix: TokenIds = ()
) -> dict[int, SuccessBounds]:
    """Bounds of the success probability of each token at the node `prefix`: forced there, then continued freely.

    They are conditional on the token; `bound` and `max_expansions` hold for each token by itself.

    Raises:
        UserError: `max_expansions` prefixes do not suffice for some token.
        ValueError: The model's rows are not distributions.
    """
    return {token: enumerate_success(next_logprobs, verify, limits, prefix=(*prefix, token)) for token in tokens}


@dataclass
class _Search:
    """Probability decided so far and the prefixes still open, most likely first."""

    verify: Verify
    limits: Limits
    correct: float = 0.0
    wrong: float = 0.0
    frontier: list[tuple[float, TokenIds]] = field(default_factory=list)

    @property
    def low(self) -> float:
        return min(self.correct, 1.0)

    @property
    def high(self) -> float:
        # Sums of many small masses can pass 1 by rounding; the bounds must not cross.
        return max(1.0 - self.wrong, self.low)

    @property
    def undecided(self) -> float:
        return self.high - self.low

    def add(self, ids: TokenIds, mass: float) -> None:
        """Decide a finished response, or keep the prefix for expansion."""
        ended = bool(ids) and ids[-1] in self.limits.eos_ids
        if not ended and len(ids) < self.limits.max_tokens:
            heapq.heappush(self.frontier, (-mass, ids))
        elif self.verify(ids, not ended):
            self.correct += mass
        else:
            self.wrong += mass

    def most_likely(self, count: int) -> list[tuple[TokenIds, float]]:
        """Take the `count` most likely open prefixes (fewer if there are fewer), ties by token ids."""
        popped = [heapq.heappop(self.frontier) for _ in range(min(count, len(self.frontier)))]
        return [(ids, -negative_mass) for negative_mass, ids in popped]


def _probabilities(logprobs: Float64[np.ndarray, "prefix vocab"], prefixes: int) -> Float64[np.ndarray, "prefix vocab"]:
    """Exponentials, renormalised: float32 models are off by 1e-6 a token, which would add up over a response."""
    if len(logprobs) != prefixes:
        raise ValueError(f"Expected next_logprobs of {prefixes} prefixes, got {len(logprobs)} rows.")
    probabilities = np.exp(logprobs)
    totals = probabilities.sum(axis=1)
    worst = int(np.argmax(np.abs(totals - 1.0)))
    if not math.isclose(totals[worst], 1.0, abs_tol=1e-4):
        raise ValueError(
            f"Expected next_logprobs of a distribution; row {worst} sums to {totals[worst]} in probability."
        )
    return probabilities / totals[:, None]


def _likely_tokens(row: Float64[np.ndarray, " vocab"], ignored_mass: float) -> Int64[np.ndarray, " token"]:
    """Tokens in order of id, without the least likely ones that together have at most `ignored_mass`."""
    ascending = np.argsort(row, kind="stable")
    ignored = int(np.searchsorted(np.cumsum(row[ascending]), ignored_mass, side="right"))
    return np.sort(ascending[ignored:])


class PathSum(NamedTuple):
    """What `enumerate_path_sum` found."""

    path_sum: float
    """E sum_t sum_v (q - p)(v) S_teacher over prefixes that the student writes."""
    student_value: float
    teacher_value: float


def enumerate_path_sum(
    student: NextLogprobs,
    teacher: NextLogprobs,
    verify: Verify,
    limits: Limits,
    *,
    weighed_by: NextLogprobs | None = None,
) -> PathSum:
    """The expected path sum of (q - p) . S under the teacher's continuations, and both success probabilities, exactly.

    Args:
        student: writes the prefixes, and gives p.
        teacher: gives q, and continues every token.
        verify: as in `enumerate_success`.
        limits: ends of responses; `bound` and `batch_size` are not used.
        weighed_by: gives p in the sum instead of the student (to see what a wrong one does).

    Raises:
        UserError: there are more than `max_expansions` prefixes.
        ValueError: the models' rows are not distributions.
    """
    levels: list[list[TokenIds]] = [[()]]
    rows: dict[TokenIds, Float64[np.ndarray, "model vocab"]] = {}
    models = (student, teacher, weighed_by or student)
    while levels[-1]:
        if len(rows) + len(levels[-1]) > limits.max_expansions:
            raise UserError(f"There are more than {limits.max_expansions} prefixes; raise max_expansions.")
        found = np.stack([_probabilities(model(levels[-1]), len(levels[-1])) for model in models], axis=1)
        rows |= dict(zip(levels[-1], found, strict=True))
        children = ((*ids, token) for ids in levels[-1] for token in np.flatnonzero(rows[ids][:2].any(0)).tolist())
        levels.append([ids for ids in children if ids[-1] not in limits.eos_ids and len(ids) < limits.max_tokens])
    known: dict[TokenIds, PathSum] = {}
    for ids in (ids for level in reversed(levels) for ids in level):
        p, q, weight = rows[ids]
        total = np.zeros(3)
        for token in np.flatnonzero(rows[ids].any(0)).tolist():
            child = (*ids, token)
            if child not in known:
                outcome = float(verify(child, child[-1] not in limits.eos_ids))
                known[child] = PathSum(0.0, outcome, outcome)
            onward, own, taught = known[child]
            total += (q[token] - weight[token]) * taught + p[token] * onward, p[token] * own, q[token] * taught
        known[ids] = PathSum(*total.tolist())
    return known[()]
