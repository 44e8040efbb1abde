"""Random worlds with known success rates, to ask whether the statistics of `hydrometer.alignment` say what is true.

A question has a value V_0 and a teacher quality; a path is a chain of nodes. At a node with value V the candidates (two
to four, and the rest of the vocabulary) get probabilities p and success rates S with sum p S = V; the path's token is
drawn from p, its S is the next node's value, and the path succeeds with the last one. The teacher is q ~ p exp(f),
f = gain (S - V) + noise. Most nodes matter little, some matter, few are pivotal.

Rollouts are counted as the tool counts them: base rollouts start at the root and split at each node, candidates short
of visits are topped up by forced rollouts, and whoever takes the path's token goes on to the next node, so that nodes
of a path share rollouts. Paths of a question share its value and teacher, not rollouts.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hydrometer.alignment.arrays import KeptNodes, TeacherFields
from hydrometer.alignment.contributions import NodeLabels, compute_half_scores, node_terms, sum_by_question
from hydrometer.alignment.scores import compute_arm_scores

MAX_LENGTH = 16
MIN_LENGTH = 6
MAX_CANDIDATES = 4
BLOCK = 4000
"""Questions simulated at once."""


@dataclass(frozen=True)
class World:
    """How questions and teachers are drawn."""

    gain: float = 1.0
    """Mean over questions of how much the teacher tilts towards success."""
    gain_sd: float = 0.6
    noise: float = 0.7
    """Standard deviation of the teacher's log-ratio that has nothing to do with success."""
    stakes: tuple[float, float, float] = (0.02, 0.25, 1.0)
    """Scale of the differences in success rate at indifferent (60 %), relevant (30 %) and pivotal (10 %) nodes."""
    paths: int = 4
    temperature: float | None = None
    """If given, the teacher is the student at this temperature, whatever the success rates."""

    def without_differences(self) -> "World":
        """The same world with all success rates of a question equal."""
        return replace(self, stakes=(0.0, 0.0, 0.0))


class Chains(NamedTuple):
    """Paths of many questions with everything that is true about them. Axes: question, path, position(, token)."""

    probabilities: NDArray[np.float64]
    """The last token stands for the rest of the vocabulary and is never kept."""
    rates: NDArray[np.float64]
    field: NDArray[np.float64]
    is_candidate: NDArray[np.bool_]
    is_node: NDArray[np.bool_]
    value: NDArray[np.float64]
    token: NDArray[np.int64]
    """What the path took."""
    outcome: NDArray[np.bool_]


def draw_chains(world: World, questions: int, rng: np.random.Generator) -> Chains:
    """Draw questions, their paths, and the truth at every node."""
    shape = (questions, world.paths)
    value = np.clip(rng.beta(1.2, 1.2, size=questions), 0.03, 0.97)[:, None] * np.ones(shape)
    scale = np.exp(0.5 * rng.standard_normal(questions))[:, None]
    gain = 6.0 * rng.normal(world.gain, world.gain_sd, size=questions)[:, None, None]
    length = rng.integers(MIN_LENGTH, MAX_LENGTH + 1, size=(questions, 1)) * np.ones(shape, dtype=np.int64)
    steps = []
    for _ in range(MAX_LENGTH):
        is_candidate = np.arange(MAX_CANDIDATES) < rng.choice([2, 3, 4], p=[0.6, 0.25, 0.15], size=shape)[..., None]
        raw = (rng.gamma(0.8, size=is_candidate.shape) + 1e-3) * is_candidate
        rest = rng.uniform(0.0, 0.25, size=(*shape, 1))
        p = np.concatenate([raw / raw.sum(-1, keepdims=True) * (1.0 - rest), rest], axis=-1)
        rates = _draw_rates(world, p, value, scale, rng)
        noise = world.noise * rng.standard_normal(is_candidate.shape)
        field = gain * (rates[..., :-1] - value[..., None]) + noise
        if world.temperature is not None:
            field = (1.0 / world.temperature - 1.0) * np.log(np.where(is_candidate, p[..., :-1], 1.0))
        token = (np.cumsum(p, axis=-1) < rng.random((*shape, 1))).sum(-1).clip(0, MAX_CANDIDATES)
        steps.append((p, rates, field * is_candidate, is_candidate, value, token))
        value = np.take_along_axis(rates, token[..., None], axis=-1)[..., 0]
    p, rates, field, is_candidate, values, tokens = (np.stack(part, axis=2) for part in zip(*steps, strict=True))
    is_node = np.arange(MAX_LENGTH) < length[..., None]
    last = np.take_along_axis(rates, tokens[..., None], axis=-1)[..., 0]
    final = np.take_along_axis(last, length[..., None] - 1, axis=-1)[..., 0]
    return Chains(p, rates, field, is_candidate, is_node, values, tokens, rng.random(shape) < final)


def _draw_rates(
    world: World,
    p: NDArray[np.float64],
    value: NDArray[np.float64],
    scale: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Success rates in (0, 1) whose mean under p is the value of the node."""
    kind = rng.choice(3, p=[0.6, 0.3, 0.1], size=value.shape)
    stake = np.choose(kind, world.stakes) * scale
    effect = rng.standard_normal(p.shape) * (p > 0.0)
    effect = (effect - (p * effect).sum(-1, keepdims=True)) * (p > 0.0)
    up, down = np.maximum(effect.max(-1), 1e-9), np.maximum(-effect.min(-1), 1e-9)
    room = np.minimum(0.95 * (1.0 - value) / up, 0.95 * value / down)
    return value[..., None] + np.minimum(stake, room)[..., None] * effect


class Counts(NamedTuple):
    """Visits and successes per candidate."""

    visits: NDArray[np.int64]
    successes: NDArray[np.int64]


def count_rollouts(chains: Chains, visits: int, rng: np.random.Generator, *, count_path: bool = False) -> Counts:
    """Simulate base and forced rollouts until every candidate has at least `visits` of them.

    Whoever reaches a node splits over its tokens according to p; given how many of them succeed in the end, those who
    do split according to p S / V and the others according to p (1 - S) / (1 - V).

    Args:
        chains: the truth.
        visits: least number per candidate; also the number of base rollouts of each path's tree.
        rng: random numbers.
        count_path: the mistake: let the analysed path count in its own success rates.
    """
    shape = chains.is_candidate.shape
    seen, won = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    arriving = np.full(shape[:2], visits)
    winning = rng.binomial(arriving, chains.value[:, :, 0])
    for position in range(shape[2]):
        p, rates = chains.probabilities[:, :, position], chains.rates[:, :, position]
        win = rng.multinomial(winning, _normalised(p * rates))
        all_visits = win + rng.multinomial(arriving - winning, _normalised(p * (1.0 - rates)))
        forced = np.maximum(visits - all_visits[..., :-1], 0) * chains.is_candidate[:, :, position]
        all_visits[..., :-1] += forced
        win[..., :-1] += rng.binomial(forced, np.clip(rates[..., :-1], 0.0, 1.0))
        seen[:, :, position], won[:, :, position] = all_visits[..., :-1], win[..., :-1]
        token = chains.token[:, :, position, None]
        arriving = np.take_along_axis(all_visits, token, axis=-1)[..., 0]
        winning = np.take_along_axis(win, token, axis=-1)[..., 0]
    if count_path:
        own = chains.token[..., None] == np.arange(shape[-1])
        seen, won = seen + own, won + own * chains.outcome[:, :, None, None]
    return Counts(seen * chains.is_candidate, won * chains.is_candidate)


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total = weights.sum(-1, keepdims=True)
    return np.where(total > 0.0, weights / np.where(total > 0.0, total, 1.0), 1.0 / weights.shape[-1])


def question_sums(chains: Chains, counts: Counts | None, rng: np.random.Generator) -> NDArray[np.float64]:
    """Per-question sums [question, split, term] by the tool's own code; `counts` None means infinitely many visits."""
    node = chains.is_node
    is_candidate = chains.is_candidate[node]
    p = chains.probabilities[node][:, :-1] * is_candidate
    mass = p.sum(-1)
    if counts is None:
        visits = np.ones(p.shape)
        rates = rates_a = rates_b = chains.rates[node][:, :-1] * is_candidate
        variances = np.zeros(p.shape)
    else:
        visits, wins = np.maximum(counts.visits[node], 2), counts.successes[node]
        first = (visits + 1) // 2
        wins_a = rng.hypergeometric(wins, visits - wins, first)
        rates, rates_a, rates_b = wins / visits, wins_a / first, (wins - wins_a) / (visits - first)
        variances = rates * (1.0 - rates) / (visits - 1)
    kept = KeptNodes(
        keys=pl.DataFrame({"node": np.arange(len(p))}),
        slots=pl.DataFrame(),
        is_candidate=is_candidate,
        weights=p / mass[:, None],
        mass=mass,
        visits=visits.astype(np.float64),
        rates=rates,
        rates_a=rates_a,
        rates_b=rates_b,
        variances=variances,
    )
    field = chains.field[node]
    logprobs = np.where(is_candidate, np.log(np.where(is_candidate, p, 1.0)) + field, -np.inf)
    exact = np.zeros((1, 1, *field.shape))
    fields = TeacherFields(
        ("t",), ("o",), np.ones((1, len(p)), dtype=bool), logprobs[None], field[None, None], exact, exact
    )
    scores = compute_arm_scores(kept, fields)
    halves = (compute_half_scores(kept, scores, rates_a), compute_half_scores(kept, scores, rates_b))
    owner = np.broadcast_to(np.arange(len(node))[:, None, None], node.shape)[node]
    outcome = np.broadcast_to(chains.outcome[:, :, None], node.shape)[node]
    labels = NodeLabels(tuple(map(str, range(len(node)))), owner, np.ones(len(owner)), outcome)
    return sum_by_question(labels, node_terms(kept, scores, *halves)).sums[:, :, 0, 0]


def population_sums(world: World, rng: np.random.Generator, questions: int = 80_000) -> NDArray[np.float64]:
    """Sums [split, term] over very many questions at infinite visits: the truth that the statistics aim at."""
    blocks = [question_sums(draw_chains(world, BLOCK, rng), None, rng).sum(0) for _ in range(questions // BLOCK)]
    return np.sum(blocks, axis=0)


def simulate_runs(
    world: World, *, runs: int, questions: int, visits: int, rng: np.random.Generator, count_path: bool = False
) -> NDArray[np.float64]:
    """Per-question sums [question, run, split, term] of independent diagnoses."""
    at_once = max(1, BLOCK // questions)
    blocks = []
    for start in range(0, runs, at_once):
        size = min(at_once, runs - start)
        chains = draw_chains(world, size * questions, rng)
        counts = count_rollouts(chains, visits, rng, count_path=count_path)
        sums = question_sums(chains, counts, rng)
        blocks.append(sums.reshape(size, questions, *sums.shape[1:]))
    return np.moveaxis(np.concatenate(blocks), 0, 1)
