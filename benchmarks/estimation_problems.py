"""Simulated questions whose truth is known, to ask what an answer costs in generated tokens.

A question has a value V and paths of 24 to 56 tokens, every token a node. Two thirds of the nodes are nearly decided
(one candidate has 90 to 99.8 % of the probability), the others are open. Of all nodes 80 % hardly matter, 14 % matter,
6 % are pivotal. Success rates S have mean V under p, and the token that the path takes carries its S on as the next
node's V; the last one is the chance that the response is right. Teacher a has the field

    f_a = (level_a (1 + slope_a (2 depth - 1)) + spread x question effect) (S - V) + noise,

the noise partly shared by the teachers, with level_a set so that the pooled cosine of every teacher over the whole
population is exactly what was asked for. Some teachers help early in a response and some late (slope_a).
A rollout that is forced at position t of a path of L tokens generates L - t - 1 tokens, an on-policy one L.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hydrometer.alignment.arrays import centre

MIN_LENGTH, MAX_LENGTH = 24, 56
MAX_CANDIDATES = 4
Array = NDArray[np.float64]


class Chains(NamedTuple):
    """Paths of many questions and all that is true about them. Axes: question, path, position(, token)."""

    probabilities: Array
    """The last token stands for the rest of the vocabulary and is never a candidate."""
    rates: Array
    is_candidate: NDArray[np.bool_]
    is_node: NDArray[np.bool_]
    value: Array
    token: NDArray[np.int64]
    """What the path took."""
    outcome: NDArray[np.bool_]
    remaining: Array
    """Tokens that a rollout forced here generates."""
    length: Array
    """Tokens of an on-policy rollout of the question. Axes: question, path."""
    fields: Array
    """Of every teacher. Axes: teacher, question, path, position, token."""


@dataclass(frozen=True)
class Population:
    """Questions that can be drawn again block by block, with teachers of known pooled cosine."""

    cosines: tuple[float, ...]
    """True pooled cosine of every teacher."""
    seed: int
    blocks: int
    block: int = 500
    """Questions drawn at once."""
    paths: int = 4
    """Per question."""
    stakes: tuple[float, float, float] = (0.02, 0.25, 1.0)
    """Scale of the differences in success rate at indifferent, relevant and pivotal nodes."""
    spread: float = 1.5
    """Standard deviation over questions of how much a teacher tilts towards success."""

    def draw_block(self, index: int, levels: Sequence[float] | None = None) -> Chains:
        """The questions of one block, the same ones at every call."""
        rng = np.random.default_rng([self.seed, index])
        truth = _draw_truth(self, rng)
        edge = (truth.rates[..., :-1] - truth.value[..., None]) * truth.is_candidate
        shared = rng.standard_normal(edge.shape)
        fields = np.stack([self._field(edge, shared, truth.is_candidate, rng) for _ in self.cosines])
        if levels is not None:
            fields = fields + np.asarray(levels)[:, None, None, None, None] * self._tilts(truth)
        return truth._replace(fields=fields)

    def _tilts(self, truth: Chains) -> Array:
        """What every teacher's level multiplies. Axes: teacher, question, path, position, token."""
        slopes = np.random.default_rng(self.seed).uniform(-1.0, 1.0, size=len(self.cosines))
        depth = np.arange(MAX_LENGTH) / np.maximum(truth.length[..., None] - 1.0, 1.0)
        strength = 1.0 + slopes[:, None, None, None] * (2.0 * depth - 1.0)
        return strength[..., None] * ((truth.rates[..., :-1] - truth.value[..., None]) * truth.is_candidate)

    def _field(self, edge: Array, shared: Array, is_candidate: NDArray[np.bool_], rng: np.random.Generator) -> Array:
        effect = self.spread * rng.standard_normal((len(edge), 1, 1, 1))
        noise = 0.5 * shared + 0.5 * rng.standard_normal(edge.shape)
        return (effect * edge + noise) * is_candidate

    def calibrate(self) -> list[float]:
        """The level of every teacher at which its pooled cosine over the whole population is the wanted one.

        With f = f_0 + level (S - V) both the inner product and |d|^2 are polynomials of the level.
        """
        terms = np.zeros((len(self.cosines), 6))
        for index in range(self.blocks):
            chains = self.draw_block(index)
            weights, mass = kept_weights(chains)
            ideal = centre(weights, mass, chains.rates[..., :-1] * chains.is_candidate)
            step = centre(weights, mass, self._tilts(chains))
            start = centre(weights, mass, chains.fields)
            pairs = ((start, ideal), (step, ideal), (start, start), (start, step), (step, step), (ideal, ideal))
            for place, (first, second) in enumerate(pairs):
                terms[:, place] += (first * second)[..., chains.is_node, :].sum((-1, -2))
        return [_solve(row, target) for row, target in zip(terms, self.cosines, strict=True)]

    def exact_sums(self, chains: Chains) -> Array:
        """Sums over all nodes at infinite visits: g.d, |d|^2, |g|^2 and mean advantage. Axes: teacher, sum."""
        weights, mass = kept_weights(chains)
        ideal = centre(weights, mass, chains.rates[..., :-1] * chains.is_candidate)
        directions = centre(weights, mass, chains.fields)
        tilted = weights * np.exp(chains.fields)
        teacher = tilted / np.where(chains.is_node, tilted.sum(-1), 1.0)[..., None]
        advantage = ((teacher - weights) * chains.rates[..., :-1]).sum(-1) / (self.blocks * chains.is_node.sum())
        ideal_square = np.broadcast_to((ideal**2).sum(-1), advantage.shape)
        terms = ((directions * ideal).sum(-1), (directions**2).sum(-1), ideal_square, advantage)
        return np.stack([values[:, chains.is_node].sum(-1) for values in terms], axis=-1)


def _solve(terms: Array, target: float) -> float:
    """Bisect: the pooled cosine grows with the level."""
    low, high = -200.0, 200.0
    for _ in range(80):
        middle = (low + high) / 2
        inner = terms[0] + middle * terms[1]
        square = terms[2] + 2 * middle * terms[3] + middle**2 * terms[4]
        low, high = (middle, high) if inner < target * np.sqrt(terms[5] * square) else (low, middle)
    return (low + high) / 2


def kept_weights(chains: Chains) -> tuple[Array, Array]:
    """Student probability renormalised over the candidates, and their mass."""
    p = chains.probabilities[..., :-1] * chains.is_candidate
    mass = p.sum(-1)
    return p / np.where(mass > 0.0, mass, 1.0)[..., None], mass


def _draw_truth(population: Population, rng: np.random.Generator) -> Chains:
    shape = (population.block, population.paths)
    value = np.clip(rng.beta(1.2, 1.2, size=population.block), 0.03, 0.97)[:, None] * np.ones(shape)
    length = rng.integers(MIN_LENGTH, MAX_LENGTH + 1, size=(population.block, 1)) * np.ones(shape, dtype=np.int64)
    steps = []
    for _ in range(MAX_LENGTH):
        is_candidate = np.arange(MAX_CANDIDATES) < rng.choice([2, 3, 4], p=[0.5, 0.3, 0.2], size=shape)[..., None]
        p = _draw_probabilities(is_candidate, rng)
        rates = _draw_rates(population.stakes, p, value, rng)
        token = (np.cumsum(p, axis=-1) < rng.random((*shape, 1))).sum(-1).clip(0, MAX_CANDIDATES)
        steps.append((p, rates, is_candidate, value, token))
        value = np.take_along_axis(rates, token[..., None], axis=-1)[..., 0]
    p, rates, is_candidate, values, tokens = (np.stack(part, axis=2) for part in zip(*steps, strict=True))
    is_node = np.arange(MAX_LENGTH) < length[..., None]
    ends = np.take_along_axis(rates, tokens[..., None], axis=-1)[..., 0]
    final = np.take_along_axis(ends, length[..., None] - 1, axis=-1)[..., 0]
    remaining = np.where(is_node, length[..., None] - np.arange(MAX_LENGTH) - 1.0, 0.0)
    no_fields = np.zeros((0, *p[..., :-1].shape))
    return Chains(
        p,
        rates,
        is_candidate,
        is_node,
        values,
        tokens,
        rng.random(shape) < final,
        remaining,
        length.astype(np.float64),
        no_fields,
    )


def _draw_probabilities(is_candidate: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    raw = (rng.gamma(0.8, size=is_candidate.shape) + 1e-3) * is_candidate
    raw /= raw.sum(-1, keepdims=True)
    is_decided = rng.random((*is_candidate.shape[:-1], 1)) < 2 / 3
    others = 10.0 ** rng.uniform(-2.7, -1.0, size=is_decided.shape)
    first = np.arange(MAX_CANDIDATES) == 0
    tail = raw * ~first
    tail = tail / np.maximum(tail.sum(-1, keepdims=True), 1e-12)
    p = np.where(is_decided, (1.0 - others) * first + others * tail, raw)
    rest = np.where(is_decided, 0.1 * others, rng.uniform(0.0, 0.1, size=is_decided.shape))
    return np.concatenate([p * (1.0 - rest), rest], axis=-1)


def _draw_rates(stakes: tuple[float, float, float], p: Array, value: Array, rng: np.random.Generator) -> Array:
    """Success rates in (0, 1) whose mean under p is the value of the node."""
    kind = rng.choice(3, p=[0.8, 0.14, 0.06], size=value.shape)
    stake = np.choose(kind, stakes)
    effect = rng.standard_normal(p.shape) * (p > 0.0)
    effect = (effect - (p * effect).sum(-1, keepdims=True)) * (p > 0.0)
    up, down = np.maximum(effect.max(-1), 1e-9), np.maximum(-effect.min(-1), 1e-9)
    room = np.minimum(0.95 * (1.0 - value) / up, 0.95 * value / down)
    return value[..., None] + np.minimum(stake, room)[..., None] * effect
