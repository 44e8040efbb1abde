"""What is particular to the batched sampler: shared trunks, shrinking batches, batch sizes, drawing from a table."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny_models import new_model, tiny_model

from hydrometer.models.transformers_model import TransformersModel
from hydrometer.sampling import SampleRequest, SamplingSettings, ScriptedModel, build_sampler, transformers_sampler
from hydrometer.sampling.shared_prefix import SharedPrefixRows
from hydrometer.sampling.transformers_sampler import TransformersSampler

PROMPT = tuple(range(5, 15))
PATH = (7, 9, 11, 6, 8, 10)


def new_sampler(model: TransformersModel, limit: int, **options: int) -> TransformersSampler:
    """One that has found out how the model is decoded."""
    sampler = TransformersSampler(model, SamplingSettings(limit), **options)
    assert sampler.start_rows is SharedPrefixRows
    return sampler


@contextmanager
def counted_calls(model: TransformersModel) -> Iterator[list[tuple[int, int]]]:
    """(rows, tokens per row) of every forward pass."""
    calls: list[tuple[int, int]] = []
    handle = model.network.base_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


def test_a_trunk_is_computed_once_for_all_nodes_of_a_path():
    model = tiny_model()
    requests = [SampleRequest(PROMPT, PATH[:depth], seed) for depth in range(7) for seed in range(3)]
    sampler = new_sampler(model, 8)
    with counted_calls(model) as calls:
        sampler.sample(requests)
    prefills = [tokens for rows, tokens in calls if tokens > 1]
    # the last prefix token is fed with the row's own step, so the longest context that is cached lacks it
    assert prefills == [len(PROMPT) + len(PATH) - 1]
    assert len(calls) - len(prefills) <= 8
    assert next(rows for rows, tokens in calls if tokens == 1) == 7, "one row for each node"


def test_branches_off_a_path_pay_for_their_own_last_tokens_only_and_prompts_for_what_they_do_not_share():
    model = tiny_model()
    other_prompt = (PROMPT[0], 21, 22)
    requests = [
        SampleRequest(PROMPT, PATH, 0),
        SampleRequest(PROMPT, (*PATH[:3], 30), 1),  # off the path by its forced token, which is not cached
        SampleRequest(PROMPT, (), 2),
        SampleRequest(other_prompt, (), 3),
        SampleRequest(other_prompt, (), 4),
    ]
    sampler = new_sampler(model, 7)
    with counted_calls(model) as calls:
        sampler.sample(requests)
    # 15 tokens of the prompt with its path but for the last, and one of the other prompt between first and last
    assert [call for call in calls if call[1] > 1] == [(1, 16)]


@pytest.mark.parametrize("spread", [0.6, 2.5])
def test_rows_are_computed_once_while_they_agree_and_leave_when_they_have_ended(spread: float):
    model = new_model(vocab=8, spread=spread)
    requests = [SampleRequest((4, 2, 7), (3,) * (seed % 2), seed) for seed in range(64)]
    sampler = new_sampler(model, 40)
    with counted_calls(model) as calls:
        drawn = sampler.sample(requests)
    computed = [rows for rows, tokens in calls if tokens == 1]
    histories = [
        {
            (*request.prefix_ids, -1, *continuation.token_ids[:step])
            for request, continuation in zip(requests, drawn, strict=True)
            if len(continuation.token_ids) > step
        }
        for step in range(len(computed))
    ]
    distinct = [len(step) for step in histories]
    assert computed[0] == 2
    assert all(needed <= rows < needed * 4 / 3 for needed, rows in zip(distinct, computed, strict=True))
    assert sum(distinct) < 0.9 * sum(len(continuation.token_ids) for continuation in drawn)


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_batch_size_moves_nothing(batch_size: int):
    model = tiny_model()
    requests = [SampleRequest(PROMPT[: 1 + seed % 4], PATH[: seed % 3], seed) for seed in range(11)]
    whole = TransformersSampler(model, SamplingSettings(9)).sample(requests)
    parts = TransformersSampler(model, SamplingSettings(9), batch_size=batch_size).sample(requests)
    assert [c.token_ids for c in parts] == [c.token_ids for c in whole]
    for part, other in zip(parts, whole, strict=True):
        assert part.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_the_chosen_batch_fits_the_memory_it_is_given(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model()
    requests = [SampleRequest(PROMPT, (), seed) for seed in range(6)]
    # two float32 arrays (keys, values) of 2 layers x 2 heads x 8 for each position: 10 once, 5 in every row
    bytes_per_token = 2 * 2 * 2 * 8 * 4
    bytes_per_row = 5 * bytes_per_token + 24 * model.output_size
    sampler = new_sampler(model, 5)
    for rows in (1, 2, 3):
        monkeypatch.setattr(transformers_sampler, "_BATCH_BYTES", 10 * bytes_per_token + rows * bytes_per_row)
        with counted_calls(model) as calls:
            sampler.sample(requests)
        assert sum(tokens > 1 for _, tokens in calls) == 6 / rows, "one batch, one prefill"
    monkeypatch.setattr(transformers_sampler, "_BATCH_BYTES", 1)
    assert len(TransformersSampler(model, SamplingSettings(5)).sample(requests)) == 6


def test_sampling_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    TransformersSampler(tiny_model(), SamplingSettings(4)).sample([SampleRequest(PROMPT, (), 0)])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_sampler_is_built_for_the_models_there_are():
    model = tiny_model()
    sampler = build_sampler(model, SamplingSettings(4), batch_size=2)
    assert isinstance(sampler, TransformersSampler)
    assert sampler.batch_size == 2
    with pytest.raises(TypeError, match="no sampler for object"):
        build_sampler(object(), SamplingSettings(4))


def test_a_scripted_model_that_is_cut_to_a_shared_vocabulary_draws_and_scores_within_it():
    import numpy as np

    model = ScriptedModel(("<eos>", "a", "b", "pad"), lambda _prompt, _response: np.array([0.1, 0.2, 0.1, 0.6]))
    model.vocab_size = 3
    drawn = build_sampler(model, SamplingSettings(1)).sample([SampleRequest((1,), (), seed) for seed in range(300)])
    assert {c.token_ids[0] for c in drawn} == {0, 1, 2}
    [a_logprob] = {round(c.logprobs[0], 6) for c in drawn if c.token_ids == (1,)}
    assert a_logprob == pytest.approx(np.log(0.5), abs=1e-6)
    [chunk] = model.score((1,), (1,))
    assert chunk.logits.softmax(-1).tolist()[0] == pytest.approx([0.25, 0.5, 0.25])
