"""Simulated rollouts of many questions at once: counted as the tool counts them, and paid for in generated tokens.

Base rollouts start at the root and split at each node; a forced rollout starts behind its token; whoever takes the
path's token goes on to the next node and is counted there too. Given how many of those who reach a node succeed, they
split over its tokens according to p S / V, the others according to p (1 - S) / (1 - V).

    counts = start(chains, base=8, rng)
    counts = top_up(chains, counts, targets, rng)      every candidate to at least so many visits, shallow ones first
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.estimation_problems import Array, Chains


class Counts(NamedTuple):
    """Visits and successes per candidate, and the tokens that were generated for them. Axes: question, path, ..."""

    visits: NDArray[np.int64]
    successes: NDArray[np.int64]
    tokens: Array
    """Axes: question, path."""


def start(chains: Chains, base: int, rng: np.random.Generator) -> Counts:
    """Base rollouts alone."""
    nothing = np.zeros(chains.is_candidate.shape, dtype=np.int64)
    empty = Counts(nothing, nothing, np.zeros(chains.length.shape))
    return _sweep(chains, empty, nothing, base, rng)


def top_up(chains: Chains, counts: Counts, targets: NDArray[np.int64], rng: np.random.Generator) -> Counts:
    """Force rollouts until every candidate has its target; visits that are gained on the way are not paid again."""
    return _sweep(chains, counts, targets, 0, rng)


def _sweep(chains: Chains, counts: Counts, targets: NDArray[np.int64], base: int, rng: np.random.Generator) -> Counts:
    visits, successes = counts.visits.copy(), counts.successes.copy()
    tokens = counts.tokens + base * chains.length
    arriving = np.full(chains.length.shape, base)
    winning = rng.binomial(arriving, chains.value[:, :, 0])
    for position in range(visits.shape[2]):
        p, rates = chains.probabilities[:, :, position], chains.rates[:, :, position]
        win = rng.multinomial(winning, _normalised(p * rates))
        everyone = win + rng.multinomial(arriving - winning, _normalised(p * (1.0 - rates)))
        is_open = chains.is_candidate[:, :, position] & chains.is_node[:, :, position, None]
        missing = targets[:, :, position] - visits[:, :, position] - everyone[..., :-1]
        forced = np.maximum(missing, 0) * is_open
        everyone[..., :-1] += forced
        win[..., :-1] += rng.binomial(forced, np.clip(rates[..., :-1], 0.0, 1.0))
        tokens += forced.sum(-1) * chains.remaining[:, :, position]
        visits[:, :, position] += everyone[..., :-1] * is_open
        successes[:, :, position] += win[..., :-1] * is_open
        token = chains.token[:, :, position, None]
        arriving = np.take_along_axis(everyone, token, axis=-1)[..., 0]
        winning = np.take_along_axis(win, token, axis=-1)[..., 0]
    return Counts(visits, successes, tokens)


def _normalised(weights: Array) -> Array:
    total = weights.sum(-1, keepdims=True)
    return np.where(total > 0.0, weights / np.where(total > 0.0, total, 1.0), 1.0 / weights.shape[-1])
