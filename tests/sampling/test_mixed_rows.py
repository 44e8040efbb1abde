"""Drawing from the mean over several prompts: its distribution, its log-probabilities, what it shares a batch with."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from reference_loops import Model, next_logits, warp_by_hand
from scipy.stats import chisquare
from tiny_models import tiny_model

from hydrometer.models import Warp, drawn_logprobs, walk_mixture
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler
from hydrometer.sampling.mixed_rows import MixedRows, Reading, start_reading
from hydrometer.sampling.padded_rows import PaddedRows
from hydrometer.sampling.shared_prefix import SharedPrefixRows
from hydrometer.types import WeightedPrompt

MIXTURE = (WeightedPrompt((4, 2, 7, 3), 0.55), WeightedPrompt((4, 2, 5), 0.25), WeightedPrompt((6,), 0.2))
OTHER = (WeightedPrompt((4, 2, 7, 3), 0.1), WeightedPrompt((6,), 0.9))


def request(seed: int, mixture: Sequence[WeightedPrompt] = MIXTURE, prefix: tuple[int, ...] = ()) -> SampleRequest:
    return SampleRequest(mixture[0].prompt_ids, prefix, seed, mixture=tuple(mixture))


def mean_probs(model: Model, response: tuple[int, ...], warp: Warp) -> list[float]:
    """The product of the next-token probabilities to the powers of the weights, normalised, by hand."""
    logs = [0.0] * model.vocab_size
    for prompt_ids, weight in MIXTURE:
        row = next_logits(model, prompt_ids, response)
        normaliser = math.log(math.fsum(math.exp(value) for value in row))
        logs = [total + weight * (value - normaliser) for total, value in zip(logs, row, strict=True)]
    return warp_by_hand(logs, warp)


def p_value(counts: Counter[tuple[int, ...]], exact: dict[tuple[int, ...], float]) -> float:
    """Of Pearson's chi-square; what is expected less than 5 times is one cell."""
    total = counts.total()
    large = [response for response, p in exact.items() if p * total >= 5.0]
    seen, expected = [counts[response] for response in large], [exact[response] * total for response in large]
    return float(chisquare([*seen, total - sum(seen) + 1e-9], [*expected, total - sum(expected) + 1e-9]).pvalue)


@pytest.mark.parametrize("warp", [Warp(), Warp(temperature=0.7)], ids=["plain", "cooler"])
def test_responses_are_distributed_as_the_geometric_mean(transforming_model: Model, warp: Warp):
    model = transforming_model
    requests = [request(seed, prefix=(5,)) for seed in range(1500)]
    counts = Counter(one.token_ids for one in build_sampler(model, SamplingSettings(3, warp)).sample(requests))
    exact: dict[tuple[int, ...], float] = {}
    for first, mass in enumerate(mean_probs(model, (5,), warp)):
        if first in model.eos_ids:
            exact[first,] = mass
        elif mass > 0.0:
            exact |= {(first, second): mass * p for second, p in enumerate(mean_probs(model, (5, first), warp))}
    assert p_value(counts, exact) > 1e-4
    firsts = Counter((response[0],) for response in counts.elements())
    of_one = warp_by_hand(next_logits(model, MIXTURE[0].prompt_ids, (5,)), warp)
    assert p_value(firsts, {(token,): p for token, p in enumerate(of_one)}) < 1e-6, (
        "the mean is not the heaviest prompt"
    )


def test_log_probabilities_are_those_that_scoring_finds_under_the_same_prompts(transforming_model: Model):
    model = transforming_model
    requests = [request(seed, prefix=(2, 5)[: seed % 3]) for seed in range(12)]
    drawn = build_sampler(model, SamplingSettings(6)).sample(requests)
    responses = [(*one.prefix_ids, *found.token_ids) for one, found in zip(requests, drawn, strict=True)]
    walks = walk_mixture(model, MIXTURE, responses)
    for one, found, response, walk in zip(requests, drawn, responses, walks, strict=True):
        free = range(len(one.prefix_ids), len(response))
        scored = drawn_logprobs(walk, response, Warp())[free.start :]
        np.testing.assert_allclose(found.logprobs, scored, atol=1e-4)
        by_hand = [math.log(mean_probs(model, response[:place], Warp())[response[place]]) for place in free]
        np.testing.assert_allclose(scored, by_hand, atol=1e-4)


def test_neither_the_batch_nor_its_size_matters(transforming_model: Model):
    model = transforming_model
    requests = [
        *(request(seed, prefix=(2, 5, 3)[: seed % 4]) for seed in range(9)),
        *(request(seed, OTHER) for seed in range(9)),
        *(SampleRequest((4, 2, 7, 3), (2,), seed) for seed in range(9)),
    ]
    together = build_sampler(model, SamplingSettings(7)).sample(requests)
    few = build_sampler(model, SamplingSettings(7), batch_size=4).sample(requests)
    alone = [build_sampler(model, SamplingSettings(7)).sample([one])[0] for one in requests]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone] == [one.token_ids for one in few]


def test_one_prompt_of_weight_one_is_that_prompt(transforming_model: Model):
    sampler = build_sampler(transforming_model, SamplingSettings(6))
    plain = sampler.sample([SampleRequest((4, 2, 7), (), seed) for seed in range(20)])
    assert sampler.sample([request(seed, [WeightedPrompt((4, 2, 7), 1.0)]) for seed in range(20)]) == plain


@pytest.mark.parametrize("start", [SharedPrefixRows, PaddedRows])
@torch.inference_mode()
def test_rows_of_several_prompts_part_and_leave_together(start: type):
    model = tiny_model()
    readings = [
        Reading(((5, 6, 7), (5, 6)), (0.3, 0.7)),
        Reading(((8, 9),), (1.0,)),
        Reading(((5, 6, 7), (3,), (8, 4, 2)), (0.2, 0.3, 0.5)),
    ]
    read = [[list(context) for context in reading.contexts] for reading in readings]
    weights = [reading.weights for reading in readings]

    decoded = start_reading(start, model, readings, 4)
    assert isinstance(decoded, MixedRows)
    kept, following = [2, 0, 2], [11, 12, 13]
    with decoded.installed():
        found = [decoded.step(torch.tensor([7, 9, 7]))]
        decoded.keep(torch.tensor(kept))
        found.append(decoded.step(torch.tensor(following)))
    moved = [[[*ids, token] for ids in read[row]] for row, token in zip(kept, following, strict=True)]
    for logits, rows, mine in ((found[0], read, weights), (found[1], moved, [weights[row] for row in kept])):
        torch.testing.assert_close(logits, mean_logits(model, rows, mine), atol=1e-4, rtol=1e-4)


def mean_logits(
    model: TransformersModel, rows: list[list[list[int]]], weights: list[tuple[float, ...]]
) -> torch.Tensor:
    found = []
    for contexts, mine in zip(rows, weights, strict=True):
        each = [model.network(input_ids=torch.tensor([ids])).logits[0, -1] for ids in contexts]
        found.append(torch.stack([weight * logits for weight, logits in zip(mine, each, strict=True)]).sum(0))
    return torch.stack(found)
