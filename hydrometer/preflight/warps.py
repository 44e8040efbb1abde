"""Do drawn tokens follow p, or p cut or bent by an option that nobody asked for (top-k, top-p, a repetition penalty)?

For every suspected sampler r, the product over drawn tokens of r(token) / p(token) has expectation 1 where the tokens
were drawn from p, whatever the text (each factor has, given the prefix). So has the mean of these products over all
suspects, and by Markov's inequality it exceeds 1e6 with probability below 1e-6. Where a suspect is the true sampler its
product grows with every token, by the mass that it cuts off. Reported log-probabilities play no part.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hydrometer.models import CausalModel, Warp, warp_logprobs
from hydrometer.preflight.subjects import Sample

RED_LOG_EVIDENCE = math.log(1e6)
_TOP_K = (1, 5, 10, 20, 40, 50, 64, 100, 200)
_TOP_P = (0.5, 0.8, 0.9, 0.95, 0.99)
_MIN_P = (0.02, 0.05, 0.1)
_TEMPERATURE = (0.3, 0.6, 0.7, 0.8, 0.9, 1.2, 1.5)
_REPETITION_PENALTY = (1.02, 1.05, 1.1, 1.2, 1.5)
_LARGEST_NUCLEUS = 1000
"""Tokens among which the edge of a suspected nucleus is looked for; a wider one counts as no cut there."""
_BLOCK_ELEMENTS = 1 << 22


class Reading:
    """Sums over all drawn tokens: scored log-probabilities, and the evidence for every suspect."""

    def __init__(self) -> None:
        self.scored: list[list[float]] = []
        """Of every drawn token, by sample, under the warped distribution; -inf where p = 0."""
        self.log_ratios: dict[str, float] = {}
        """By suspect: sum of log r(token) - log p(token)."""

    @property
    def log_evidence(self) -> float:
        """Logarithm of the mean product."""
        values = torch.tensor(list(self.log_ratios.values()), dtype=torch.float64)
        return float(values.logsumexp(0)) - math.log(len(values))

    @property
    def best_suspect(self) -> str:
        """The suspect that the drawn tokens speak for most."""
        return max(self.log_ratios, key=self.log_ratios.__getitem__)


def read_samples(model: CausalModel, samples: list[Sample], warp: Warp) -> Reading:
    """Score every sample's tokens and weigh the suspects."""
    reading = Reading()
    for sample in samples:
        prompt, ids = sample.request.prompt_ids, sample.drawn.token_ids
        scored: list[float] = []
        for chunk in model.score(prompt, ids):
            rows = max(1, _BLOCK_ELEMENTS // chunk.logits.shape[-1])
            for first in range(0, len(chunk.logits), rows):
                logits = chunk.logits[first : first + rows].double()
                start = chunk.start + first
                drawn = torch.tensor(ids[start : start + len(logits)], device=logits.device)
                own, ratios = _weigh(logits, drawn, _seen(logits, prompt, ids, start), warp)
                scored.extend(own.tolist())
                for suspect, ratio in ratios.items():
                    reading.log_ratios[suspect] = reading.log_ratios.get(suspect, 0.0) + float(ratio.sum())
        reading.scored.append(scored)
    return reading


def _weigh(
    logits: Float[Tensor, "token vocab"], drawn: Int[Tensor, " token"], seen: Bool[Tensor, "token vocab"], warp: Warp
) -> tuple[Float[Tensor, " token"], Mapping[str, Float[Tensor, " token"]]]:
    """Log p of the drawn tokens, and log r - log p of them for every suspect r."""
    p = warp_logprobs(logits, warp)
    own = p.gather(-1, drawn[:, None])[:, 0]
    ratios: dict[str, Tensor] = {}
    for suspect, edge in _edges(p).items():
        kept = p.exp().masked_fill(p < edge[:, None], 0.0).sum(-1)
        ratios[suspect] = (-kept.log()).masked_fill(own < edge, -torch.inf)
    for temperature in _TEMPERATURE:
        bent = p / temperature
        ratios[f"an extra temperature={temperature:g}"] = own / temperature - bent.logsumexp(-1) - own
    for penalty in _REPETITION_PENALTY:
        bent = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        changed = warp_logprobs(bent, warp).gather(-1, drawn[:, None])[:, 0]
        ratios[f"repetition_penalty={penalty:g}"] = changed - own
    # rounding can put a drawn token just outside the nucleus that was asked for: it says nothing about suspects
    outside = own.isneginf()
    return own, {suspect: ratio.masked_fill(outside, 0.0) for suspect, ratio in ratios.items()}


def _edges(p: Float[Tensor, "token vocab"]) -> dict[str, Float[Tensor, " token"]]:
    """By suspect that cuts: the least log-probability it keeps (tokens of equal probability share their fate)."""
    vocab = p.shape[-1]
    top = p.topk(min(_LARGEST_NUCLEUS, vocab)).values
    edges = {f"top_k={k}": top[:, k - 1] for k in _TOP_K if k < vocab}
    cumulative = top.exp().cumsum(-1)
    for share in _TOP_P:
        reached = cumulative >= share
        crossing = top.gather(-1, reached.int().argmax(-1, keepdim=True))[:, 0]
        edges[f"top_p={share:g}"] = torch.where(reached.any(-1), crossing, -torch.inf)
    for share in _MIN_P:
        edges[f"min_p={share:g}"] = top[:, 0] + math.log(share)
    return edges


def _seen(
    logits: Float[Tensor, "token vocab"], prompt: tuple[int, ...], ids: tuple[int, ...], start: int
) -> Bool[Tensor, "token vocab"]:
    """Tokens that stand in the prompt or earlier in the response."""
    vocab = logits.shape[-1]
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    before = sorted({i for i in (*prompt, *ids[:start]) if i < vocab})
    seen[:, before] = True
    for row in range(1, len(logits)):
        seen[row:, ids[start + row - 1]] = True
    return seen
