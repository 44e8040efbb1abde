"""Whether branches that share their numbers tell two tokens apart with fewer rollouts. About half a minute.

    python benchmarks/coupling.py [--paths 5] [--nodes 10] [--rollouts 64] [--json]

Rollout r of token k and rollout r of token k' at one node have one seed and are `coupled` (see `SampleRequest`), or all
have seeds of their own. With outcomes x and x' of a pair of rollouts, the ratio is

    var(x - x', own seeds) / var(x - x', one seed)

each summed over the pairs of candidates of all nodes: how many times the rollouts it takes to tell success rates apart
as well without coupling. Interval: percentiles of a bootstrap over nodes.
"""

import argparse
import json
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler
from hydrometer.tasks.chain import ChainTask
from hydrometer.types import Question

_TOKENS = 96
_THRESHOLD = 0.02
"""Least probability of a candidate."""


class Pair(NamedTuple):
    """Variances of a difference of two outcomes, of one rollout each."""

    node: int
    independent: float
    coupled: float
    gap: float
    """Difference of the success rates, from both sides' rollouts."""


def main() -> None:
    """Print the ratio of variances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=10, help="of each path, at most")
    parser.add_argument("--rollouts", type=int, default=64, help="of each candidate")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("bundled:student")
    pairs: list[Pair] = []
    nodes = 0
    for number, question in enumerate(ChainTask().questions("diagnose")[: options.paths]):
        for position, path, candidates in _nodes(model, question, number, options.nodes):
            pairs += _measure(model, question, path[:position], candidates, nodes, options.rollouts)
            nodes += 1
    parts = {
        "all": pairs,
        "gap below 0.1": [pair for pair in pairs if pair.gap < 0.1],
        "0.1 and more": [pair for pair in pairs if pair.gap >= 0.1],
    }
    found = {name: _ratio(part) for name, part in parts.items()}
    if options.json:
        print(json.dumps({name: {"ratio": r[0], "low": r[1], "high": r[2]} for name, r in found.items()}))
        return
    print(f"{nodes} nodes, {options.rollouts} rollouts of each candidate")
    for name, part in parts.items():
        ratio, low, high = found[name]
        print(f"{name:13}  {len(part):4} pairs  ratio of variances {ratio:.2f} ({low:.2f} to {high:.2f})")


def _nodes(
    model: TransformersModel, question: Question, number: int, most: int
) -> list[tuple[int, tuple[int, ...], list[int]]]:
    """(position, path, candidates) of nodes with two candidates or more, spread evenly over one path."""
    prompt_ids = model.render(question.prompt)
    [drawn] = build_sampler(model, SamplingSettings(_TOKENS)).sample([SampleRequest(prompt_ids, (), number)])
    path = drawn.token_ids
    found: list[tuple[int, tuple[int, ...], list[int]]] = []
    for chunk in model.score(prompt_ids, path):
        for offset, logits in enumerate(chunk.logits):
            candidates = (logits.softmax(-1) > _THRESHOLD).nonzero()[:, 0].tolist()
            if len(candidates) > 1 and not model.eos_ids & set(candidates):
                found.append((chunk.start + offset, path, candidates))
    return [found[i] for i in sorted({round(x) for x in np.linspace(0, len(found) - 1, min(most, len(found)))})]


def _measure(
    model: TransformersModel, question: Question, prefix: tuple[int, ...], candidates: list[int], node: int, copies: int
) -> list[Pair]:
    prompt_ids = model.render(question.prompt)
    starts = [(*prefix, token) for token in candidates for _ in range(copies)]
    sampler = build_sampler(model, SamplingSettings(_TOKENS))
    sides: list[Float64[np.ndarray, "candidate rollout"]] = []
    for seeds in (range(copies, copies + len(starts)), list(range(copies)) * len(candidates)):
        drawn = sampler.sample(
            [
                SampleRequest(prompt_ids, start, node << 32 | seed, coupled=True)
                for start, seed in zip(starts, seeds, strict=True)
            ]
        )
        texts = [model.decode((*start, *c.token_ids)) for start, c in zip(starts, drawn, strict=True)]
        graded = [ChainTask().verify(question, text).strict.correct for text in texts]
        sides.append(np.array(graded, dtype=np.float64).reshape(len(candidates), copies))
    independent, coupled = sides
    means = (coupled.mean(1) + independent.mean(1)) / 2
    return [
        Pair(node, _difference(independent, a, b), _difference(coupled, a, b), float(abs(means[a] - means[b])))
        for a, b in combinations(range(len(candidates)), 2)
    ]


def _difference(outcomes: Float64[np.ndarray, "candidate rollout"], first: int, second: int) -> float:
    return float((outcomes[first] - outcomes[second]).var(ddof=1))


def _ratio(pairs: list[Pair]) -> tuple[float, float, float]:
    """Of the sums over all pairs, with a 95 % interval."""
    nodes = sorted({pair.node for pair in pairs})
    sums = np.array(
        [
            [sum(p.independent for p in pairs if p.node == n), sum(p.coupled for p in pairs if p.node == n)]
            for n in nodes
        ]
    )
    picks = np.random.default_rng(0).integers(len(nodes), size=(2000, len(nodes)))
    totals = sums[picks].sum(1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    independent, coupled = sums.sum(0)
    return round(float(independent / coupled), 3), round(float(low), 3), round(float(high), 3)


if __name__ == "__main__":
    main()
