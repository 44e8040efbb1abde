"""Do the intervals hold the truth at small effects, many teachers, few visits, and where a run stops when it is sure?

Runs of Q questions are drawn from one large population; the truth is that population's exact pooled cosine. Of every
run one teacher is looked at, in turn, so that the runs are independent trials. A run that may stop has the tool's own
looks, and ends at the first at which the tool would recommend an arm.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.estimation_curves import Truth, measure_population
from benchmarks.estimation_problems import Array, Population
from benchmarks.estimation_strategies import Outcomes, Strategy, Sums, Windowed
from hydrometer.alignment.choice import Arm, Evidence, Scores, score_arms
from hydrometer.alignment.intervals import jackknife
from hydrometer.alignment.looks import look_schedule, needed_probability
from hydrometer.alignment.metrics import METRICS, TERMS
from hydrometer.alignment.separation import RECOMMEND_AT, draw_posterior, find_lead

QUESTIONS = (8, 20, 50)
OUTCOME_QUESTIONS = (20, 50, 200)
"""Outcomes are spread over more questions: 200 of them cost less than one of the published protocol."""
BLOCK = 150
"""Questions drawn at once where each has many paths."""
EPSILON = 0.02
VISITS = (4, 20, 100)
TEACHERS = (2, 8)
SMALL, LARGE = (0.05, 0.02), (0.4, 0.1)
"""True pooled cosines of the first two teachers: effects as they are, and ones that end runs early."""


CHOOSE = Outcomes(16, 1, 8, base=2)
"""As `--allocation choose` spends its tokens."""


class Covered(NamedTuple):
    """Of the runs of one setting."""

    held: int
    given: int
    runs: int
    width: float
    """Median, of those given."""
    stopped: int = 0
    """Before their last look."""
    widening: float = 1.0
    """Median width over that of a 95 % interval of the same questions, whose number was fixed."""


class Ending(NamedTuple):
    """What a run says at its end."""

    questions: int
    is_early: bool
    recommended: int | None
    """Place of the arm, the last is `no teacher`."""
    is_told_apart: NDArray[np.bool_]
    """From the recommended arm."""
    scores: Scores


def jackknife_terms(sums: Sums) -> Array:
    """The sums as the tool's metrics take them. Axes: question, teacher, term."""
    terms = np.zeros((*sums.inner.shape, len(TERMS)))
    values = {"inner": sums.inner, "direction_square": sums.direction_square}
    values |= {"ideal_square": sums.ideal_square[:, None], "nodes": sums.nodes[:, None]}
    for name, value in values.items():
        terms[..., TERMS.index(name)] = value
    return terms


def score_run(terms: Array, *, is_length_apart: bool, confidence: float = RECOMMEND_AT) -> Scores:
    """Scores as the tool has them. Axes of the terms: question, teacher, term."""
    arms = tuple(Arm(str(index), "reverse_kl", (), False, (index, 0)) for index in range(terms.shape[1]))
    evidence = Evidence(arms, terms, 0, 0, 0, (), is_length_apart)
    return score_arms(evidence, epsilon=EPSILON, confidence=confidence)


def end_run(terms: Array, looks: Sequence[int], needed: float, rng: np.random.Generator, *, apart: bool) -> Ending:
    """Go through the looks until the tool would recommend an arm."""
    for count in looks:
        scores = score_run(terms[:count], is_length_apart=apart, confidence=needed)
        usable, lead = find_lead(scores.estimate, scores.deviations, scores.epsilon, needed)
        is_sure = lead is not None and lead.is_settled() and draw_posterior(lead, rng).is_separated(lead)
        told = np.zeros(len(scores.estimate), dtype=bool)
        if lead is not None and is_sure:
            told[usable] = lead.compare()[0]
            return Ending(count, count < looks[-1], int(np.flatnonzero(usable)[lead.leader]), told, scores)
        if count == looks[-1]:
            return Ending(count, False, None, told, scores)
    raise ValueError("a run has at least one look")


def draw_endings(
    terms: Array,
    questions: int,
    runs: int,
    rng: np.random.Generator,
    *,
    apart: bool,
    looks: Sequence[int] | None = None,
) -> Iterator[tuple[Array, Ending]]:
    """Terms and ending of every run; the tool's own looks unless others are given."""
    looks = look_schedule(questions) if looks is None else looks
    needed = needed_probability(looks, RECOMMEND_AT)
    for _ in range(runs):
        drawn = terms[rng.choice(len(terms), size=questions, replace=False)]
        yield drawn, end_run(drawn, looks, needed, rng, apart=apart)


def cover(terms: Array, truth: Truth, questions: int, runs: int, rng: np.random.Generator) -> Covered:
    """How often the interval of pooled cosine holds the truth, at a fixed number of questions."""
    metric = METRICS["pooled_cosine"]
    teachers = np.arange(runs) % terms.shape[1]
    chosen = np.stack([rng.choice(len(terms), size=questions, replace=False) for _ in range(runs)], axis=1)
    drawn = terms[chosen, teachers]
    everywhere = np.ones(drawn.shape[:2], dtype=bool)
    found = jackknife(metric.value, drawn, everywhere, limits=metric.limits, is_ratio=metric.is_ratio)
    return _count(np.stack([found.low, found.high], axis=1), truth.cosine[teachers])


def cover_stopped(
    terms: Array, truth: Truth, questions: int, runs: int, rng: np.random.Generator, *, apart: bool, stops: bool = True
) -> Covered:
    """The same for runs that may stop (or not), by the tool's own scores."""
    ends, fixed, early = [], [], 0
    looks = None if stops else (questions,)
    endings = draw_endings(terms, questions, runs, rng, apart=apart, looks=looks)
    teachers = np.arange(runs) % terms.shape[1]
    for teacher, (drawn, ending) in zip(teachers.tolist(), endings, strict=True):
        ends.append(ending.scores.intervals[teacher] or [np.nan, np.nan])
        plain = score_run(drawn[: ending.questions], is_length_apart=apart).intervals[teacher]
        fixed.append(plain or [np.nan, np.nan])
        early += ending.is_early
    widening = float(np.nanmedian(np.diff(ends, axis=1) / np.diff(fixed, axis=1)))
    return _count(np.array(ends), truth.cosine[teachers])._replace(stopped=early, widening=widening)


def _count(ends: Array, target: Array) -> Covered:
    low, high = ends.T
    given = np.isfinite(low) & np.isfinite(high)
    held = given & (low <= target) & (target <= high)
    width = float(np.median((high - low)[given])) if given.any() else float("nan")
    return Covered(int(held.sum()), int(given.sum()), len(target), width)


def coverage_tables(blocks: int, runs: int, effects_of: Sequence[tuple[float, float]]) -> Iterator[tuple[str, Covered]]:
    """Rankings by branches, at a fixed number of questions and where runs may stop."""
    for teachers in TEACHERS:
        for effects in effects_of:
            name = " large effects" if effects == LARGE else ""
            terms, truth = _population_terms((*effects, *(0.0,) * (teachers - 2)), blocks, VISITS)
            for visits, measured in terms.items():
                for questions in QUESTIONS:
                    place = f"questions={questions} visits={visits} teachers={teachers}"
                    rng = np.random.default_rng([teachers, questions])
                    yield f"{place} stopping=off{name}", cover(measured, truth, questions, runs, rng)
                    found = cover_stopped(measured, truth, questions, runs, rng, apart=False)
                    yield f"{place} stopping=on{name}", found


def outcome_tables(blocks: int, runs: int, effects_of: Sequence[tuple[float, float]]) -> Iterator[tuple[str, Covered]]:
    """Rankings by the outcomes of paths, whose unit is measured apart."""
    for teachers in TEACHERS:
        for effects in effects_of:
            name = " large effects" if effects == LARGE else ""
            cosines = (*effects, *(0.0,) * (teachers - 2))
            population = Population(cosines, 900 + teachers, blocks, block=BLOCK, paths=CHOOSE.paths)
            truth, [measured], _ = measure_population(population, [CHOOSE], 3)
            terms = jackknife_terms(measured)
            for questions in OUTCOME_QUESTIONS:
                for stops in (False, True):
                    rng = np.random.default_rng([teachers, questions])
                    found = cover_stopped(terms, truth, questions, runs, rng, apart=True, stops=stops)
                    stopping = "on" if stops else "off"
                    yield f"questions={questions} outcomes teachers={teachers} stopping={stopping}{name}", found


def _population_terms(
    cosines: tuple[float, ...], blocks: int, visits: Sequence[int], seed: int = 900
) -> tuple[dict[int, Array], Truth]:
    """Sums of every question of a population by number of visits, and the truth."""
    strategies: list[Strategy] = [Windowed(n, n) for n in visits]
    population = Population(cosines, seed + len(cosines), blocks, paths=1)
    truth, measured, _ = measure_population(population, strategies, 3)
    return {n: jackknife_terms(sums) for n, sums in zip(visits, measured, strict=True)}, truth


class Equals(NamedTuple):
    """Of runs whose two best arms are equally good."""

    told_apart: int
    """One of the two was recommended, and said to be better than the other."""
    recommended: int
    """Any arm was."""
    runs: int


def tell_equals(teachers: int, visits: int, questions: int, runs: int, *, stops: bool, blocks: int = 3) -> Equals:
    """How often one of two equal arms is preferred to the other; what other teachers there are is far behind."""
    cosines = (0.3, 0.3, *(0.0,) * (teachers - 2))
    terms, _ = _population_terms(cosines, blocks, (visits,), seed=700)
    rng = np.random.default_rng([teachers, visits, questions])
    looks = None if stops else (questions,)
    told = recommended = 0
    for _, ending in draw_endings(terms[visits], questions, runs, rng, apart=False, looks=looks):
        recommended += ending.recommended is not None
        if ending.recommended in (0, 1):
            told += bool(ending.is_told_apart[1 - ending.recommended])
    return Equals(told, recommended, runs)


class Decisions(NamedTuple):
    """Of runs that rank by outcomes."""

    recommended: int
    wrong: int
    """The recommended arm is truly more than epsilon below the best."""
    runs: int
    tokens: float
    """Of a run, on average."""


def decide(cosines: tuple[float, ...], sizes: Sequence[int], runs: int, blocks: int) -> Iterator[tuple[int, Decisions]]:
    """How often a run that chooses recommends an arm, and how often wrongly, by the most questions it may ask."""
    population = Population(cosines, 77 + round(1000 * cosines[0]), blocks, block=BLOCK, paths=CHOOSE.paths)
    truth, measured, _ = measure_population(population, [CHOOSE], 5)
    terms, rng = jackknife_terms(measured[0]), np.random.default_rng(9)
    values = np.append(truth.cosine, 0.0)
    for questions in sizes:
        recommended, wrong, asked = 0, 0, 0
        for _, ending in draw_endings(terms, questions, runs, rng, apart=True):
            asked += ending.questions
            if ending.recommended is not None:
                recommended += 1
                wrong += bool(values[ending.recommended] < values.max() - EPSILON - 1e-9)
        yield questions, Decisions(recommended, wrong, runs, float(measured[0].tokens.mean() * asked / runs))
