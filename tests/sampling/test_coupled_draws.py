"""Two branches with one seed: the same tokens where their distributions agree, and nothing shared between seeds."""

import numpy as np
import pytest
import torch
from reference_loops import Model
from scipy.stats import chi2_contingency
from tiny_models import new_model

from hydrometer.sampling import SampleRequest, SamplingSettings, ScriptedModel, build_sampler

TOKENS = ("<pad>", "<eos>", "a", "b", "c", "d", "e", "f")
PROMPT = (4, 2, 7)
COUNT = 600


def _scripted() -> Model:
    table = np.random.default_rng(3).dirichlet(np.full(len(TOKENS), 0.8), size=len(TOKENS))
    return ScriptedModel(TOKENS, lambda prompt, response: table[(*prompt, *response)[-1]])


def _without_attention() -> Model:
    model = new_model("qwen3", vocab=8, spread=0.6)
    with torch.no_grad():
        for name, weight in model.network.named_parameters():
            if "o_proj" in name:
                weight.zero_()
    return model


@pytest.fixture(scope="module", params=[_scripted, _without_attention], ids=["scripted", "transformers"])
def forgetful_model(request: pytest.FixtureRequest) -> Model:
    """One whose next token depends on the last one alone."""
    return request.param()


def first_tokens(model: Model, prefix: tuple[int, ...], seeds: range) -> list[int]:
    requests = [SampleRequest(PROMPT, prefix, seed, most_tokens=1, coupled=True) for seed in seeds]
    return [c.token_ids[0] for c in build_sampler(model, SamplingSettings(9)).sample(requests)]


def table_of(one: list[int], other: list[int]) -> np.ndarray:
    counts = np.zeros((len(TOKENS), len(TOKENS)))
    np.add.at(counts, (one, other), 1)
    return counts[counts.sum(1) > 20][:, counts.sum(0) > 20]


def test_branches_draw_the_same_tokens_once_their_distributions_agree(forgetful_model: Model):
    sampler = build_sampler(forgetful_model, SamplingSettings(12))
    drawn = sampler.sample([SampleRequest(PROMPT, (2, 5, 3), seed, coupled=True) for seed in range(60)])
    responses = [(seed, (2, 5, 3, *c.token_ids)) for seed, c in enumerate(drawn) if len(c.token_ids) > 3]
    assert len(responses) > 10
    # other tokens before position 5, at which both have the same last token
    elsewhere = [SampleRequest(PROMPT, (7, 7, 6, 4, r[4]), seed, coupled=True) for seed, r in responses]
    for (_, response), continuation in zip(responses, sampler.sample(elsewhere), strict=True):
        assert continuation.token_ids == response[5:]
    alone = sampler.sample([request._replace(coupled=False) for request in elsewhere])
    assert [c.token_ids for c in alone] != [r[5:] for _, r in responses]


def test_seeds_share_nothing():
    model = _scripted()
    one = first_tokens(model, (2, 5), range(COUNT))
    same_seeds = first_tokens(model, (2, 6), range(COUNT))
    other_seeds = first_tokens(model, (2, 6), range(COUNT, 2 * COUNT))
    assert chi2_contingency(table_of(one, other_seeds)).pvalue > 1e-3
    assert chi2_contingency(table_of(one, same_seeds)).pvalue < 1e-9
