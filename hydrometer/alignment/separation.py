"""Whether the leading arm may be recommended, and what it would take if not yet.

    theta ~ multivariate t_{Q-1}(estimate, joint jackknife covariance over questions)
    p_within_epsilon(arm) = P(theta_arm >= max theta - epsilon)
    told apart from arm j:   T_nu((estimate_leader - estimate_j) / error_j) >= (1 + needed) / 2
    settled with arm j:      told apart, or T_nu(epsilon / error_j) >= 0.95
                             nu matched to the spread of the questions as in `intervals`, at most Q - 1

A leader is recommended where its p_within_epsilon reaches `needed` and it is settled with every other arm. `needed` is
a two-sided level (see `looks`), since either of two equal arms may happen to lead: those are told apart in 1 - needed
of all looks, however small their errors are beside epsilon. Where epsilon alone settles it, whichever leads is near
enough to the best, and the recommendation names the arms that it was not told apart from.

The leader's teacher alone is decided by the same two rules, with "the best of its arms" in the place of the leader:

    P(max over its arms of theta >= max theta - epsilon) >= needed, and the leader is settled with every arm of others

so that two near objectives of one teacher do not hide that the teacher is known. Arms that are excluded count as worse
than all others, for certain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from hydrometer.alignment.intervals import MIN_QUESTIONS, matched_degrees

RECOMMEND_AT = 0.95
"""Probability of being within epsilon of the best arm that a recommendation needs."""
DRAWS = 20_000
MAX_FACTOR = 1e6
"""Beyond this many times the questions, separation is called out of reach."""


class Separation(NamedTuple):
    """How sure the order of the arms is."""

    p_within: Float[np.ndarray, " scored"]
    """NaN below five questions or where the arm has no estimate."""
    is_told_apart: Bool[np.ndarray, " scored"]
    """From the leader; False for the leader itself and where nothing is known."""
    factor: float
    """How many times the present questions would separate the leader, 1 if it is separated; NaN if unknown."""
    p_teacher: float
    """That the best arm of the leader's teacher is within epsilon of the best arm; NaN where nothing is known."""
    teacher_factor: float
    """As `factor`, for the leader's teacher against the others."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Estimates of the arms whose joint error is known, the leader's place among them, and the rule."""

    estimate: Float[np.ndarray, " known"]
    deviations: Float[np.ndarray, "question known"]
    """Their cross product is the jackknife covariance."""
    epsilon: float
    needed: float
    is_own: Bool[np.ndarray, " known"]
    """Arms of the leader's teacher, itself included."""

    @property
    def leader(self) -> int:
        """Place of the largest estimate."""
        return int(np.argmax(self.estimate))

    def degrees(self, factor: float) -> float:
        """Of freedom, with so many times the questions."""
        return factor * len(self.deviations) - 1.0

    def compare(self, factor: float = 1.0) -> tuple[Bool[np.ndarray, " known"], Bool[np.ndarray, " known"]]:
        """Which arms are told apart from the leader (not itself), and which of them epsilon alone would settle."""
        moves = self.deviations - self.deviations[:, [self.leader]]
        error = np.sqrt((moves**2).sum(0) / factor)
        degrees = factor * (matched_degrees(moves, np.ones(moves.shape, dtype=bool)) + 1.0) - 1.0
        least, near = (special.stdtrit(degrees, p) * error for p in ((1.0 + self.needed) / 2.0, RECOMMEND_AT))
        gap = self.estimate[self.leader] - self.estimate
        return (gap >= least) & (gap > 0.0), self.epsilon >= near

    def is_settled(self, factor: float = 1.0) -> bool:
        """Whether every arm is told apart from the leader or known to be within epsilon of it."""
        is_told_apart, is_near = self.compare(factor)
        return bool((is_told_apart | is_near).all())

    def is_teacher_settled(self, factor: float = 1.0) -> bool:
        """Whether that holds for every arm of another teacher."""
        is_told_apart, is_near = self.compare(factor)
        return bool((is_told_apart | is_near)[~self.is_own].all())


class Draws(NamedTuple):
    """Common random numbers of the posterior at any number of questions."""

    normal: Float[np.ndarray, "draw known"]
    uniform: Float[np.ndarray, " draw"]

    def draw(self, lead: Lead, factor: float = 1.0) -> Float[np.ndarray, "draw known"]:
        """With k times the questions the covariance is 1/k of today's at the same estimates, with kQ - 1 degrees.

        The standard error of a mean over questions falls as 1/sqrt(k), whatever each question's visits are.
        """
        degrees = lead.degrees(factor)
        scale = np.sqrt(degrees / (2.0 * special.gammaincinv(degrees / 2.0, self.uniform)) / factor)
        return lead.estimate + self.normal * scale[:, None]

    def p_within(self, lead: Lead, factor: float = 1.0) -> Float[np.ndarray, " known"]:
        """Of every arm, being within epsilon of the best."""
        drawn = self.draw(lead, factor)
        return (drawn >= drawn.max(1, keepdims=True) - lead.epsilon).mean(0)

    def p_teacher(self, lead: Lead, factor: float = 1.0) -> float:
        """Of some arm of the leader's teacher being within epsilon of the best."""
        drawn = self.draw(lead, factor)
        return float((drawn[:, lead.is_own].max(1) >= drawn.max(1) - lead.epsilon).mean())

    def is_separated(self, lead: Lead, factor: float = 1.0) -> bool:
        """Whether the leader may be recommended."""
        if not lead.is_settled(factor):
            return False
        return bool(self.p_within(lead, factor)[lead.leader] >= lead.needed)

    def is_teacher_separated(self, lead: Lead, factor: float = 1.0) -> bool:
        """Whether the leader's teacher may be recommended, with the best of its arms whichever that is."""
        return lead.is_teacher_settled(factor) and self.p_teacher(lead, factor) >= lead.needed


def draw_posterior(lead: Lead, rng: np.random.Generator) -> Draws:
    """Normal draws with the covariance of the estimates, and what scales them to Student's t."""
    _, sizes, axes = np.linalg.svd(lead.deviations, full_matrices=False)
    normal = rng.standard_normal((DRAWS, len(sizes))) @ (sizes[:, None] * axes)
    return Draws(normal, rng.random(DRAWS))


def find_lead(
    estimate: Float[np.ndarray, " scored"],
    deviations: Float[np.ndarray, "question scored"],
    epsilon: float,
    needed: float,
    teachers: Int[np.ndarray, " scored"] | None = None,
) -> tuple[Bool[np.ndarray, " scored"], Lead | None]:
    """Which arms have an estimate, and how those stand; None below five questions or where nothing can be compared.

    An estimate of minus infinity, without deviations, is one that is surely worse than all others.
    """
    usable = ~np.isnan(estimate) & np.isfinite(deviations).all(0)
    if len(deviations) < MIN_QUESTIONS or usable.sum() < 2:
        return usable, None
    known, own = estimate[usable], np.arange(len(estimate))[usable] if teachers is None else teachers[usable]
    is_own = own == own[np.argmax(known)]
    return usable, Lead(known, deviations[:, usable], epsilon, needed, is_own)


def separate_arms(
    estimate: Float[np.ndarray, " scored"],
    deviations: Float[np.ndarray, "question scored"],
    epsilon: float,
    rng: np.random.Generator,
    needed: float = RECOMMEND_AT,
    *,
    teachers: Int[np.ndarray, " scored"] | None = None,
    is_excluded: Bool[np.ndarray, " scored"] | None = None,
) -> Separation:
    """How sure the order is, and the factors on the questions at which leader and teacher would be separated.

    `teachers` numbers the teacher of each arm; None: every arm has its own. `is_excluded` are arms that may not lead,
    whatever their estimate; None: there are none.
    """
    if is_excluded is not None:
        estimate, deviations = np.where(is_excluded, -np.inf, estimate), np.where(is_excluded, 0.0, deviations)
    p_within, is_told_apart = np.full(len(estimate), np.nan), np.zeros(len(estimate), dtype=bool)
    usable, lead = find_lead(estimate, deviations, epsilon, needed, teachers)
    if lead is None:
        return Separation(p_within, is_told_apart, *[float("nan")] * 3)
    draws = draw_posterior(lead, rng)
    p_within[usable], is_told_apart[usable] = draws.p_within(lead), lead.compare()[0]
    return Separation(
        p_within,
        is_told_apart,
        _needed_factor(lambda factor: draws.is_separated(lead, factor)),
        draws.p_teacher(lead),
        _needed_factor(lambda factor: draws.is_teacher_separated(lead, factor)),
    )


def _needed_factor(is_enough: Callable[[float], bool]) -> float:
    if is_enough(1.0):
        return 1.0
    low, high = 1.0, 2.0
    while not is_enough(high):
        low, high = high, high * 2.0
        if high > MAX_FACTOR:
            return float("nan")
    for _ in range(6):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
