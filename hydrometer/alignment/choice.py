"""Which arm to train with: a ranking by corrected pooled cosine on common nodes, and how sure it is.

    score = sum W g.d / sqrt((sum W |g|^2 - noise) sum W |d|^2),   `no teacher` has 0 exactly; how sure: `separation`

All ranked arms are scored on the questions and nodes that they share, so that a teacher cannot win by being scored on
easier ones. Arms with identical directions are one arm with several names; reference objectives are not ranked.

A cosine says where a teacher points where there is a choice, not what it destroys elsewhere. So an arm whose teacher's
`Worth` lies below 0, interval and all, ranks below `no teacher` whatever its cosine, and one whose worth is not above 0
is not recommended. Where the worth is not known, nothing is held against the arm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from hydrometer.alignment.contributions import NodeLabels, QuestionSums, sum_by_question
from hydrometer.alignment.entries import interval_of
from hydrometer.alignment.intervals import jackknife
from hydrometer.alignment.metrics import (
    METRICS,
    TERMS,
    corrected_direction_square,
    corrected_ideal_square,
    ideal_length,
    pooled_signal,
)
from hydrometer.alignment.scores import NO_DIRECTION, ArmScores
from hydrometer.alignment.separation import RECOMMEND_AT, separate_arms
from hydrometer.alignment.unit import fieller_interval

NO_OBJECTIVE = "none"
NO_PLACE = -1
"""Stands for `no teacher` where teachers are numbered."""
NO_UNIT = "no_unit"
"""Reason of a missing score: the arms have an order, but noise leaves no length of the ideal direction."""


class ObjectiveInfo(NamedTuple):
    """What the choice must know about an objective."""

    direction_key: str
    """Objectives with equal keys have identical expected directions."""
    reference: bool = False
    """Shown for comparison, never ranked."""


class Arm(NamedTuple):
    """One teacher x objective, with the other names of the same direction."""

    teacher: str
    objective: str
    aliases: tuple[str, ...]
    reference: bool
    place: tuple[int, int]
    """Index of teacher and objective in the arrays."""


class Worth(NamedTuple):
    """What following a teacher along the student's responses adds up to, per response (`path_advantage_with_harm`)."""

    value: float
    """Success rate."""
    low: float
    """Of its interval over questions, NaN below five questions."""
    high: float
    measured: float
    """The part of kept candidates at measured nodes."""
    harm: float
    """The part of everything else, which counts as harm: never above 0."""

    @property
    def is_harm(self) -> bool:
        """Whether the interval lies below 0."""
        return self.high < 0.0

    @property
    def is_gain(self) -> bool:
        """Whether it may be recommended."""
        return self.value > 0.0


class Ranked(NamedTuple):
    """One line of the ranking."""

    arm: Arm | None
    """None for `no teacher`."""
    score: float
    interval: list[float] | None
    """95 % over questions of the score on the shared nodes; None below five questions or where it is undefined."""
    p_within_epsilon: float
    """NaN below five questions or where the noise leaves no score."""
    reason: str | None
    """Why the score is missing (NaN)."""
    is_told_apart: bool
    """From the first line."""
    worth: Worth | None = None
    """None for `no teacher` and where it is not known."""

    @property
    def is_harm(self) -> bool:
        """Whether the arm costs success by that count, so that it ranks below `no teacher`."""
        return self.worth is not None and self.worth.is_harm

    @property
    def is_withheld(self) -> bool:
        """Whether the arm is not to be recommended, however it ranks."""
        return self.worth is not None and not self.worth.is_gain


class Ranking(NamedTuple):
    """The ranking, best first, and what it was taken over."""

    lines: tuple[Ranked, ...]
    n_nodes: int
    lost_nodes: int
    """Nodes of some ranked arm that not all of them have."""
    n_questions: int
    lost_questions: int
    unranked: tuple[Arm, ...]
    """Arms that would be ranked but have no node at all."""
    factor: float
    """How many times the present questions would separate the best arm, 1 if it is separated; NaN if unknown."""
    p_teacher: float
    """That the best arm of the leader's teacher is within epsilon of the best arm; NaN where nothing is known."""
    teacher_factor: float
    """As `factor`, for the leader's teacher against the others."""
    needed: float
    """Level of a recommendation (see `separation`) and of the intervals."""
    question_share: float
    """Of the variance of the leader's inner product: what lies between questions; NaN where that is unknown."""

    @property
    def recommended(self) -> Ranked | None:
        """The best arm where it is separated from the others and not withheld; None where it is not."""
        return self.lines[0] if self.factor == 1.0 and not self.lines[0].is_withheld else None

    @property
    def rivals(self) -> tuple[Ranked, ...]:
        """Arms that may be better than the first one."""
        return tuple(line for line in self.lines[1:] if not line.is_told_apart and math.isfinite(line.p_within_epsilon))

    @property
    def own(self) -> tuple[Ranked, ...]:
        """The first arm, and those of its teacher that may be better than it."""
        first = self.lines[0].arm
        return self.lines[:1] + tuple(line for line in self.rivals if _teacher(line.arm) == _teacher(first))

    @property
    def others(self) -> tuple[Ranked, ...]:
        """Arms of other teachers that may be better than the first one."""
        return tuple(line for line in self.rivals if line not in self.own)

    @property
    def is_teacher_decided(self) -> bool:
        """Whether the leader's teacher is separated from all others, if not its objective."""
        return self.teacher_factor == 1.0 and not self.lines[0].is_withheld

    def more_tokens(self, spent: int) -> int | None:
        """Generated tokens beyond those `spent` that would separate the best arm; None where that is unknown."""
        return None if self.lines[0].is_withheld else _price(self.factor, spent)

    def more_tokens_for_teacher(self, spent: int) -> int | None:
        """The same for the best arm's teacher alone."""
        return None if self.lines[0].is_withheld else _price(self.teacher_factor, spent)


def _price(factor: float, spent: int) -> int | None:
    if not spent or not math.isfinite(factor):  # where nothing was sampled, sampling has no price
        return None
    return math.ceil((factor - 1.0) * spent)


def _teacher(arm: Arm | None) -> str | None:
    return None if arm is None else arm.teacher


def merge_arms(teachers: Sequence[str], objectives: Mapping[str, ObjectiveInfo]) -> list[Arm]:
    """Every teacher with every distinct direction; the first objective of a direction gives its name."""
    names = list(objectives)
    groups: dict[ObjectiveInfo, list[str]] = {}
    for name, info in objectives.items():
        groups.setdefault(ObjectiveInfo(*info), []).append(name)
    return [
        Arm(teacher, same[0], tuple(same[1:]), info.reference, (t, names.index(same[0])))
        for t, teacher in enumerate(teachers)
        for info, same in groups.items()
    ]


class Evidence(NamedTuple):
    """What a ranking is computed from, on the questions and nodes that all ranked arms share."""

    ranked: tuple[Arm, ...]
    sums: Float[np.ndarray, "question arm term"]
    n_nodes: int
    lost_nodes: int
    lost_questions: int
    unranked: tuple[Arm, ...]
    is_length_apart: bool
    """Whether |g|^2 was measured by itself, at other nodes than the inner products."""
    question_shares: Float[np.ndarray, " arm"] | None = None
    """Of the variance of each arm's inner product: what lies between questions (see `outcomes`)."""
    questions: tuple[str, ...] = ()
    """Of `sums`; needed where evidence is joined."""


def gather_evidence(
    arms: Sequence[Arm],
    scores: ArmScores,
    terms: Float[np.ndarray, "term teacher objective node"],
    labels: NodeLabels,
    measured: QuestionSums | None = None,
) -> Evidence:
    """Sums of the arms that are not references over the nodes that all of them have.

    Args:
        arms: of the run.
        scores: of the nodes.
        terms: of the nodes.
        labels: of the nodes.
        measured: where the length of the ideal direction was measured, if not at these nodes.
    """
    wanted = [arm for arm in arms if not arm.reference]
    ranked = [arm for arm in wanted if scores.is_present[arm.place].any()]
    presence = np.array([scores.is_present[arm.place] for arm in ranked], dtype=bool).reshape(
        len(ranked), len(labels.question)
    )
    is_shared, is_used = _agreement(presence)
    sums = sum_by_question(labels, np.where(is_shared, terms, 0.0)).sums[:, 0]
    places = tuple(zip(*(arm.place for arm in ranked), strict=True)) if ranked else ((), ())
    chosen = sums[:, list(places[0]), list(places[1])]
    if measured is not None:
        _put_length(chosen, labels.questions, measured)
    has_nodes = np.isin(np.arange(len(labels.questions)), labels.question[is_shared])
    return Evidence(
        ranked=tuple(ranked),
        sums=chosen[has_nodes],
        questions=tuple(name for name, has_node in zip(labels.questions, has_nodes, strict=True) if has_node),
        n_nodes=int(is_shared.sum()),
        lost_nodes=int(is_used.sum() - is_shared.sum()),
        lost_questions=len(np.unique(labels.question[is_used])) - int(has_nodes.sum()),
        unranked=tuple(arm for arm in wanted if arm not in ranked),
        is_length_apart=measured is not None,
    )


def _put_length(sums: Float[np.ndarray, "question arm term"], questions: Sequence[str], measured: QuestionSums) -> None:
    """|g|^2 and its noise do not depend on the arm; a question without a measured node adds nothing to them."""
    known = {question: index for index, question in enumerate(measured.questions)}
    for place, question in enumerate(questions):
        for name in ("ideal_square", "noise"):
            term = TERMS.index(name)
            own = measured.sums[known[question], 0, ..., term].max(initial=0.0) if question in known else 0.0
            sums[place, :, term] = own


class Scores(NamedTuple):
    """Estimates of the ranked arms and, last, of `no teacher`, in the unit that orders them."""

    estimate: Float[np.ndarray, " scored"]
    deviations: Float[np.ndarray, "question scored"]
    """Their cross product is the jackknife covariance of `estimate`."""
    epsilon: float
    """In the unit of `estimate`; 0 where that has not been measured against the ideal direction."""
    score: Float[np.ndarray, " scored"]
    """Pooled cosine; NaN where noise leaves none."""
    intervals: list[list[float] | None]
    reasons: list[str | None]


def score_arms(evidence: Evidence, *, epsilon: float, confidence: float = RECOMMEND_AT) -> Scores:
    """Pooled cosines with intervals and joint errors.

    Where |g|^2 was measured by itself the arms are ordered without it: it scales all of them alike, so that its noise
    cannot change their order (see `unit`); it only says how much epsilon is.
    """
    metric = METRICS["pooled_cosine"]
    everywhere = np.ones(evidence.sums.shape[:2], dtype=bool)
    reasons = [*(_why_unscored(row, evidence.is_length_apart) for row in evidence.sums.sum(0)), None]
    options = {"limits": metric.limits, "is_ratio": metric.is_ratio, "confidence": confidence}
    if not evidence.is_length_apart:
        pooled = jackknife(metric.value, evidence.sums, everywhere, **options)
        estimate = np.append(pooled.value, 0.0)
        intervals = [*map(interval_of, pooled.low, pooled.high), None]
        return Scores(estimate, _deviations(pooled.left_out), epsilon, estimate, intervals, reasons)
    signal = jackknife(pooled_signal, evidence.sums, everywhere)
    unit = jackknife(ideal_length, evidence.sums, everywhere)
    ends = fieller_interval(signal, unit, confidence=confidence)
    known = unit.value[np.isfinite(unit.value)].max(initial=0.0)
    return Scores(
        estimate=np.append(signal.value, 0.0),
        deviations=_deviations(signal.left_out),
        epsilon=float(epsilon * known),
        score=np.append(signal.value / unit.value, 0.0),
        intervals=[*map(interval_of, *ends), None],
        reasons=reasons,
    )


def rank_arms(
    evidence: Evidence,
    *,
    epsilon: float,
    rng: np.random.Generator,
    needed: float = RECOMMEND_AT,
    worths: Mapping[str, Worth] | None = None,
) -> Ranking:
    """Rank the arms together with `no teacher`.

    `needed` is the level that a recommendation and its intervals take here (see `looks`); `worths` are by teacher, None
    where they are not known.
    """
    scores = score_arms(evidence, epsilon=epsilon, confidence=needed)
    estimate = scores.estimate
    everything: list[Arm | None] = [*evidence.ranked, None]
    known = [(worths or {}).get(arm.teacher) if arm else None for arm in everything]
    is_harm = np.array([worth is not None and worth.is_harm for worth in known])
    teachers = np.array([*(arm.place[0] for arm in evidence.ranked), NO_PLACE])
    found = separate_arms(
        estimate, scores.deviations, scores.epsilon, rng, needed, teachers=teachers, is_excluded=is_harm
    )
    order = sorted(
        range(len(estimate)),
        key=lambda i: (is_harm[i], not np.isfinite(estimate[i]), -np.nan_to_num(estimate[i]), i),
    )
    shares = np.full(len(estimate), np.nan)
    if evidence.question_shares is not None:
        shares[:-1] = evidence.question_shares
    return Ranking(
        lines=tuple(
            Ranked(
                everything[i],
                float(scores.score[i]),
                scores.intervals[i],
                float(found.p_within[i]),
                scores.reasons[i],
                bool(found.is_told_apart[i]),
                known[i],
            )
            for i in order
        ),
        n_nodes=evidence.n_nodes,
        lost_nodes=evidence.lost_nodes,
        n_questions=len(evidence.sums),
        lost_questions=evidence.lost_questions,
        unranked=evidence.unranked,
        factor=found.factor,
        p_teacher=found.p_teacher,
        teacher_factor=found.teacher_factor,
        needed=needed,
        question_share=float(shares[order[0]]),
    )


def _why_unscored(sums: Float[np.ndarray, " term"], is_length_apart: bool) -> str | None:
    if not sums[TERMS.index("nodes")] > 0.0:
        return "no_shared_nodes"
    if not sums[TERMS.index("direction_square")] > 0.0:
        return NO_DIRECTION
    if is_length_apart and not corrected_ideal_square(sums) > 0.0:
        return NO_UNIT
    return None if corrected_ideal_square(sums) > 0.0 and corrected_direction_square(sums) > 0.0 else "noise"


def _agreement(presence: Bool[np.ndarray, "arm node"]) -> tuple[Bool[np.ndarray, " node"], Bool[np.ndarray, " node"]]:
    """Nodes that all arms have, and nodes that any has (none without arms)."""
    if not len(presence):
        nothing = np.zeros(presence.shape[1], dtype=bool)
        return nothing, nothing
    return np.logical_and.reduce(presence, axis=0), np.logical_or.reduce(presence, axis=0)


def _deviations(left_out: Float[np.ndarray, "question arm"]) -> Float[np.ndarray, "question scored"]:
    """Scaled so that their cross product is the jackknife covariance; the last column is `no teacher`."""
    count = len(left_out)
    centred = left_out - left_out.mean(0) if count else left_out
    scaled = np.sqrt((count - 1) / count) * centred if count else centred
    return np.concatenate([scaled, np.zeros((count, 1))], axis=1)
