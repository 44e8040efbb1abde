"""Deliberate mistakes: a model whose logits are off by one, samplers that cut, penalise or lose the end."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from hydrometer.models import Warp, warp_logprobs
from hydrometer.models.causal import LogitsChunk
from hydrometer.sampling import Continuation, Sampler, SampleRequest, SamplingSettings, ScriptedModel

Cut = Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]
"""(log-probabilities, tokens so far) -> log-probabilities that are drawn from."""


class ShiftedModel(ScriptedModel):
    """Row t of its scores predicts token t + 1."""

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        rows = torch.cat([chunk.logits for chunk in super().score(prompt_ids, response_ids)])
        yield LogitsChunk(0, torch.cat([rows[1:], rows[-1:]]))


class LateModel(ScriptedModel):
    """Row t of its scores predicts token t - 1."""

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        rows = torch.cat([chunk.logits for chunk in super().score(prompt_ids, response_ids)])
        yield LogitsChunk(0, torch.cat([rows[:1], rows[:-1]]))


class BentSampler:
    """Draws from a distribution of its own; `honest`: and reports it, otherwise it reports p."""

    def __init__(self, model: ScriptedModel, settings: SamplingSettings, cut: Cut, *, honest: bool):
        self.model, self.settings, self.cut, self.honest = model, settings, cut, honest

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        return [self._draw(request) for request in requests]

    def _draw(self, request: SampleRequest) -> Continuation:
        rng = np.random.default_rng(request.seed)
        ids: list[int] = []
        logprobs: list[float] = []
        for _ in range(min(self.settings.max_response_tokens, request.most_tokens or 10**6)):
            p = warp_logprobs(self.model.next_logits(request.prompt_ids, tuple(ids)).double(), self.settings.warp)
            bent = self.cut(p, (*request.prompt_ids, *ids)).log_softmax(-1)
            ids.append(int(rng.choice(len(p), p=bent.exp().numpy() / bent.exp().sum().item())))
            logprobs.append(float((bent if self.honest else p)[ids[-1]]))
            if ids[-1] in self.model.eos_ids:
                return Continuation(tuple(ids), tuple(logprobs), True)
        return Continuation(tuple(ids), tuple(logprobs), False)


def top_k(k: int) -> Cut:
    return lambda p, _: p.masked_fill(p < p.topk(k).values[-1], -torch.inf)


def nucleus(share: float) -> Cut:
    return lambda p, _: warp_logprobs(p, Warp(1.0, share))


def repetition(penalty: float) -> Cut:
    def cut(p: torch.Tensor, before: tuple[int, ...]) -> torch.Tensor:
        seen = torch.zeros(len(p), dtype=torch.bool)
        seen[[i for i in before if i < len(p)]] = True
        return torch.where(seen, torch.where(p > 0, p / penalty, p * penalty), p)

    return cut


class EndlessSampler:
    """Drops the sampled end of sequence, as masking by pad == eos does; `admits` keeps `ended` true."""

    def __init__(self, inner: Sampler, eos_ids: frozenset[int], *, admits: bool):
        self.inner, self.eos_ids, self.admits = inner, eos_ids, admits

    def sample(self, requests: Sequence[SampleRequest]) -> list[Continuation]:
        return [self._strip(continuation) for continuation in self.inner.sample(requests)]

    def _strip(self, drawn: Continuation) -> Continuation:
        if drawn.token_ids and drawn.token_ids[-1] in self.eos_ids:
            return Continuation(drawn.token_ids[:-1], drawn.logprobs[:-1], self.admits)
        return drawn
