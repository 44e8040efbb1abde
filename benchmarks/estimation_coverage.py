"""Do the intervals hold the truth at small effects, many teachers and few visits? By the tool's own jackknife.

Runs of Q questions are drawn from one large population; the truth is that population's exact pooled cosine. Of every
run one teacher is looked at, in turn, so that the runs are independent trials.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.estimation_curves import Truth, measure_population
from benchmarks.estimation_problems import Array, Population
from benchmarks.estimation_strategies import Outcomes, Strategy, Sums, Windowed
from hydrometer.alignment.choice import RECOMMEND_AT, Arm, Evidence, rank_arms
from hydrometer.alignment.intervals import jackknife
from hydrometer.alignment.metrics import METRICS, TERMS

QUESTIONS = (8, 20, 50)
OUTCOME_QUESTIONS = (20, 50, 200)
"""Outcomes are spread over more questions: 200 of them cost less than one of the published protocol."""
EPSILON = 0.02
VISITS = (4, 20, 100)
TEACHERS = (2, 8)


class Covered(NamedTuple):
    """Of the runs of one setting."""

    held: int
    given: int
    runs: int
    width: float
    """Median, of those given."""


def jackknife_terms(sums: Sums) -> Array:
    """The sums as the tool's metrics take them. Axes: question, teacher, term."""
    terms = np.zeros((*sums.inner.shape, len(TERMS)))
    values = {"inner": sums.inner, "direction_square": sums.direction_square}
    values |= {"ideal_square": sums.ideal_square[:, None], "nodes": sums.nodes[:, None]}
    for name, value in values.items():
        terms[..., TERMS.index(name)] = value
    return terms


def cover(sums: Sums, truth: Truth, questions: int, runs: int, rng: np.random.Generator) -> Covered:
    """How often the interval of pooled cosine holds the truth."""
    metric = METRICS["pooled_cosine"]
    terms = jackknife_terms(sums)
    teachers = np.arange(runs) % terms.shape[1]
    chosen = np.stack([rng.choice(len(terms), size=questions, replace=False) for _ in range(runs)], axis=1)
    drawn = terms[chosen, teachers]
    everywhere = np.ones(drawn.shape[:2], dtype=bool)
    found = jackknife(metric.value, drawn, everywhere, limits=metric.limits, is_ratio=metric.is_ratio)
    given = np.isfinite(found.low) & np.isfinite(found.high)
    target = truth.cosine[teachers]
    held = given & (found.low <= target) & (target <= found.high)
    width = float(np.median((found.high - found.low)[given])) if given.any() else float("nan")
    return Covered(int(held.sum()), int(given.sum()), runs, width)


def coverage_tables(blocks: int, runs: int) -> Iterator[tuple[str, Covered]]:
    """Every setting: fixed visits, and the outcomes of eight paths with |g| from one node."""
    for teachers in TEACHERS:
        cosines = (0.05, 0.02, *(0.0,) * (teachers - 2))
        designs: tuple[tuple[int, Sequence[tuple[str, Strategy]]], ...] = (
            (1, [(f"visits={n}", Windowed(n, n)) for n in VISITS]),
            (8, [("outcomes", Outcomes(8, 1, 4))]),
        )
        for paths, designed in designs:
            population = Population(cosines, 900 + teachers, blocks, paths=paths)
            truth, measured, _ = measure_population(population, [strategy for _, strategy in designed], 3)
            for (name, _), sums in zip(designed, measured, strict=True):
                for questions in QUESTIONS if paths == 1 else OUTCOME_QUESTIONS:
                    rng = np.random.default_rng([teachers, questions])
                    yield f"questions={questions} {name} teachers={teachers}", cover(sums, truth, questions, runs, rng)


class Decisions(NamedTuple):
    """Of runs that rank by outcomes."""

    recommended: int
    wrong: int
    """The recommended arm is truly more than epsilon below the best."""
    runs: int
    tokens: float


def decide(cosines: tuple[float, ...], sizes: Sequence[int], runs: int, blocks: int) -> Iterator[tuple[int, Decisions]]:
    """How often the tool's own ranking recommends an arm, and how often wrongly, by the number of questions."""
    population = Population(cosines, 77 + round(1000 * cosines[0]), blocks, paths=8)
    truth, measured, _ = measure_population(population, [Outcomes(8, 1, 4)], 5)
    terms, rng = jackknife_terms(measured[0]), np.random.default_rng(9)
    arms = tuple(Arm(str(index), "reverse_kl", (), False, (index, 0)) for index in range(len(cosines)))
    for questions in sizes:
        recommended, wrong = 0, 0
        for _ in range(runs):
            drawn = terms[rng.choice(len(terms), size=questions, replace=False)]
            ranking = rank_arms(Evidence(arms, drawn, 0, 0, 0, (), True), epsilon=EPSILON, rng=rng)
            sure = [line for line in ranking.lines if line.p_within_epsilon >= RECOMMEND_AT]
            values = [0.0 if line.arm is None else float(truth.cosine[line.arm.place[0]]) for line in sure]
            recommended += bool(sure)
            wrong += any(value < truth.cosine.max() - EPSILON - 1e-9 for value in values)
        yield questions, Decisions(recommended, wrong, runs, float(measured[0].tokens.mean() * questions))
