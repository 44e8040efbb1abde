"""Error against generated tokens: many diagnoses are put together from the questions of one large population.

A diagnosis of Q questions is Q questions of the population in random order; its tokens are what those questions cost.
The choice is the teacher with the largest sum g.d / sqrt(sum |d|^2), or none if all are negative (|g| is common to the
teachers); its regret is the true pooled cosine of the best minus that of the chosen one. Every strategy spends a
larger budget on more questions. A ratio of tokens at equal regret is read off the curves, interpolated on log scales.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.estimation_problems import Array, Population
from benchmarks.estimation_strategies import Strategy, Sums

SIZES = (5, 8, 12, 20, 32, 50, 80, 128, 200, 320, 500, 800, 1280, 2000)
"""Questions of a diagnosis."""
REFERENCE_SIZES = (20, 32, 50, 80, 128, 200, 320)
"""Questions of the published protocol at whose regrets tokens are compared."""


class Point(NamedTuple):
    """What diagnoses of one size cost and got wrong, on average."""

    questions: int
    tokens: float
    regret: float
    cosine_error: float
    """Root mean square over runs and teachers; NaN if |g|^2 was not measured."""
    advantage_error: float
    undefined: float
    """Share of runs in which noise leaves no pooled cosine."""


class Truth(NamedTuple):
    """Per teacher."""

    cosine: Array
    advantage: Array


def measure_population(
    population: Population, strategies: Sequence[Strategy], seed: int
) -> tuple[Truth, list[Sums], Array]:
    """Every question measured once by every strategy, each with its own random numbers.

    The third value says, for every strategy and teacher, by how many standard errors the mean inner product is off.
    Where a strategy is unbiased its inner products are moved by that, so that the error of one population's average,
    which all diagnoses drawn from it would share, is not taken for an error of each.
    """
    levels = population.calibrate()
    measured: list[list[Sums]] = [[] for _ in strategies]
    exact = np.zeros((len(population.cosines), 4))
    for index in range(population.blocks):
        chains = population.draw_block(index, levels)
        exact += population.exact_sums(chains)
        for place, strategy in enumerate(strategies):
            measured[place].append(strategy.measure(chains, np.random.default_rng([seed, index, place])))
    inner, square, ideal, advantage = exact.T
    truth = Truth(inner / np.sqrt(square * ideal), advantage)
    joined = [Sums(*map(np.concatenate, zip(*blocks, strict=True))) for blocks in measured]
    questions = population.blocks * population.block
    centred, offsets = [], []
    for strategy, sums in zip(strategies, joined, strict=True):
        shift = inner / (questions * population.paths) * strategy.paths - sums.inner.mean(0)
        offsets.append(-shift / (sums.inner.std(0) / np.sqrt(questions)))
        centred.append(sums._replace(inner=sums.inner + shift) if strategy.is_unbiased else sums)
    return truth, centred, np.array(offsets)


def draw_runs(sums: Sums, questions: int, runs: int, rng: np.random.Generator, *, replace: bool = False) -> Sums:
    """Sums over the questions of each run. Leading axis: run."""
    available = len(sums.tokens)
    if replace:
        chosen = rng.integers(available, size=(runs, questions))
    else:
        shuffles = -(-runs // (available // questions))
        orders = rng.permuted(np.tile(np.arange(available), (shuffles, 1)), axis=1)
        chosen = orders[:, : available // questions * questions].reshape(-1, questions)[:runs]
    return Sums(*(values[chosen].sum(1) for values in sums))


def regret_of(runs: Sums, truth: Truth) -> Array:
    """Of the choice of every run."""
    length = np.sqrt(np.where(runs.direction_square > 0.0, runs.direction_square, np.nan))
    measured = np.nan_to_num(runs.inner / length, nan=-np.inf)  # a teacher without a node can't be chosen
    scores = np.concatenate([measured, np.zeros((len(runs.tokens), 1))], axis=1)
    cosines = np.append(truth.cosine, 0.0)
    return cosines.max() - cosines[scores.argmax(1)]


def point_of(sums: Sums, truth: Truth, questions: int, runs: int, rng: np.random.Generator, **options: bool) -> Point:
    """Average over runs of one size."""
    drawn = draw_runs(sums, questions, runs, rng, **options)
    product = drawn.ideal_square[:, None] * drawn.direction_square
    cosine = drawn.inner / np.sqrt(np.where(product > 0.0, product, np.nan))
    advantage = drawn.advantage / np.maximum(drawn.nodes, 1e-12)[:, None]
    known = np.isfinite(cosine)
    errors = np.where(known, cosine - truth.cosine, 0.0)
    return Point(
        questions,
        float(drawn.tokens.mean()),
        float(regret_of(drawn, truth).mean()),
        float(np.sqrt((errors**2).sum() / known.sum())) if known.any() else float("nan"),
        float(np.sqrt(((advantage - truth.advantage) ** 2).mean())),
        float(1.0 - known.mean()),
    )


def curve_of(sums: Sums, truth: Truth, runs: int, seed: int, **options: bool) -> list[Point]:
    """Every size that the population allows at least four disjoint runs of."""
    largest = len(sums.tokens) // 4 if not options.get("replace") else SIZES[-1]
    rng = np.random.default_rng(seed)
    return [point_of(sums, truth, size, runs, rng, **options) for size in SIZES if size <= largest]


def tokens_for(curve: Sequence[Point], regret: float) -> float:
    """Tokens at which a curve has come down to a regret for good; NaN where it never does."""
    tokens = np.log([point.tokens for point in curve])
    reached = np.log(np.maximum(np.minimum.accumulate([point.regret for point in curve]), 1e-6))
    wanted = np.log(max(regret, 1e-6))
    if wanted < reached[-1]:
        return float("nan")
    if wanted >= reached[0]:
        return float(np.exp(tokens[0]))
    after = int(np.argmax(reached <= wanted))
    share = (reached[after - 1] - wanted) / (reached[after - 1] - reached[after])
    return float(np.exp(tokens[after - 1] + share * (tokens[after] - tokens[after - 1])))


def token_ratios(
    reference: Sequence[Point],
    others: Sequence[Sequence[Point]],
    curve: Sequence[Point],
    sizes: Sequence[int] = REFERENCE_SIZES,
) -> Array:
    """At every regret of the reference: fewest tokens of the others over those of `curve` (NaN: never reached)."""
    ratios = []
    for point in reference:
        if point.questions in sizes:
            fewest = [tokens_for(other, point.regret) for other in others]
            known = [tokens for tokens in fewest if np.isfinite(tokens)]
            ratios.append(min(known) / tokens_for(curve, point.regret) if known else float("nan"))
    return np.array(ratios)
