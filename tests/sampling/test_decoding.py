"""Shared prefixes against padded rows: the same logits, the same rollouts, and which models are given to which."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference_loops import enumerate_responses
from scipy.stats import chisquare
from tiny_models import build_network, build_tokenizer, new_model, tiny_model
from transformers import Gemma2Config, Gemma2ForCausalLM, GenerationConfig

from hydrometer.models.packing import packed_weights
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling import SampleRequest, SamplingSettings
from hydrometer.sampling.decoding import start_rows_of
from hydrometer.sampling.padded_rows import PaddedRows
from hydrometer.sampling.rows import StartRows
from hydrometer.sampling.shared_prefix import SharedPrefixRows, cover_by_trunks
from hydrometer.sampling.slots import Slots
from hydrometer.sampling.transformers_sampler import TransformersSampler

PROMPT = (4, 2, 7, 3, 3, 6)
CPU = torch.device("cpu")
MODELS = {
    "grouped": {"kind": "qwen3"},
    "one_head": {"kind": "llama", "num_key_value_heads": 1},
    "no_groups": {"kind": "llama", "num_key_value_heads": 4},
}


def logits_of(
    start: StartRows, model: TransformersModel, contexts: list[tuple[int, ...]], keeps: list[list[int]]
) -> Iterator[torch.Tensor]:
    """Of steps between which rows leave."""
    with torch.inference_mode():
        decoded = start(model, contexts, len(keeps))
        with decoded.installed():
            for number, kept in enumerate(keeps):
                n_rows = len(keeps[number - 1]) if number else len(contexts)
                yield decoded.step((torch.arange(n_rows) * 5 + number) % model.output_size)
                decoded.keep(torch.tensor(kept))


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_both_ways_of_decoding_give_the_same_logits(changes: dict[str, Any]):
    model = new_model(**changes)
    path = (*PROMPT, 9, 8, 7, 6, 5)
    # rows of one long path, of an unrelated prompt and of none at all, in no order, that leave from everywhere and part
    contexts = [path[:9], (), path, (11, 12), path[:6], path[:9], (11, 12, 13), path[:10], (), path]
    keeps = [[*range(10), 3, 3, 0], [0, 9, 2, 3, 7, 5, 6, 12], [1, 0, 2, 3, 6, 5, 7, 1], [5, 1, 5, 2], [2, 0]]
    found = list(logits_of(SharedPrefixRows, model, contexts, keeps))
    expected = list(logits_of(PaddedRows, model, contexts, keeps))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_both_ways_draw_the_same_rollouts():
    model = new_model(vocab=8, spread=0.6)
    requests = [SampleRequest(PROMPT[: 2 + seed % 5], (2, 5, 3, 7)[: seed % 4], seed) for seed in range(60)]
    drawn = []
    for start in (SharedPrefixRows, PaddedRows):
        sampler = TransformersSampler(model, SamplingSettings(20))
        sampler.start_rows = start
        drawn.append(sampler.sample(requests))
    assert len({len(continuation.token_ids) for continuation in drawn[0]}) > 10
    for one, other in zip(*drawn, strict=True):
        assert (one.token_ids, one.ended) == (other.token_ids, other.ended)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_generate_as_the_benchmark_calls_it_has_the_distribution_that_is_drawn_from():
    model = new_model(vocab=8, spread=0.6)
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=2, eos_token_id=[1], pad_token_id=1
    )
    inputs = torch.tensor([PROMPT]).expand(3000, -1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = model.network.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=settings)
    counts = Counter(tuple(row[:1] if row[0] == 1 else row) for row in drawn[:, len(PROMPT) :].tolist())  # pyright: ignore
    exact = enumerate_responses(model, PROMPT, (), SamplingSettings(2))
    large = [response for response, p in exact.items() if p * 3000 >= 5.0]
    observed, expected = [counts[r] for r in large], [exact[r] * 3000 for r in large]
    rest = (3000 - sum(observed) + 1e-9, 3000 - math.fsum(expected) + 1e-9)
    assert chisquare([*observed, rest[0]], [*expected, rest[1]]).pvalue > 1e-4


def softcapped() -> TransformersModel:
    """Its attention is a sum that shared prefixes do not compute."""
    shape: dict[str, Any] = {"vocab_size": 39, "hidden_size": 16, "intermediate_size": 16, "head_dim": 8}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "max_position_embeddings": 64}
    config = Gemma2Config(**shape, pad_token_id=0, eos_token_id=1, layer_types=["full_attention"] * 2)
    network = Gemma2ForCausalLM(config)
    return TransformersModel("softcapped", network.eval(), build_tokenizer(), "softcapped")


def test_which_models_share_prefixes():
    windowed = new_model(use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert start_rows_of(load_model("bundled:student")) is SharedPrefixRows
    assert start_rows_of(tiny_model("llama")) is SharedPrefixRows
    assert start_rows_of(windowed) is PaddedRows
    assert start_rows_of(softcapped()) is PaddedRows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees_within_its_rounding(dtype: torch.dtype):
    network = build_network(spread=0.2).to(dtype)
    assert start_rows_of(TransformersModel("half", network, build_tokenizer(), "half")) is SharedPrefixRows


def test_attention_that_answers_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch):
    model = new_model()
    step = SharedPrefixRows.step
    monkeypatch.setattr(SharedPrefixRows, "step", lambda self, ids: step(self, ids) * 1.01)
    assert start_rows_of(model) is PaddedRows


def test_the_models_own_attention_is_back_after_sampling_and_after_an_error():
    model = new_model()
    before = model.network.config._attn_implementation
    decoded = SharedPrefixRows(model, [PROMPT], 2)
    with pytest.raises(KeyError), decoded.installed():
        assert model.network.config._attn_implementation != before
        raise KeyError
    assert model.network.config._attn_implementation == before


def test_contexts_are_covered_by_the_longest_of_them():
    contexts = [(1, 2), (1, 2, 3), (), (1,), (4,), (1, 2, 3), (1, 3)]
    trunks, trunk_of_row = cover_by_trunks(contexts)
    assert sorted(trunks) == [(1, 2, 3), (1, 3), (4,)]
    assert all(trunks[trunk][: len(c)] == c for c, trunk in zip(contexts, trunk_of_row, strict=True))


def test_slots_stand_by_trunk_and_every_row_has_one():
    for trunk_of_row in ([0] * 6, [2, 0, 1], [0, 1, 0, 1, 0], [3] * 40 + [1] * 3 + [2]):
        slots = Slots(trunk_of_row, CPU)
        rows = torch.arange(len(trunk_of_row))
        assert torch.equal(slots.row_of_slot[slots.slot_of_row], rows)
        trunk_of_slot = slots.trunk_of_group.repeat_interleave(slots.size)
        assert trunk_of_slot.tolist() == [trunk_of_row[row] for row in slots.row_of_slot]
        assert slots.count < 2 * len(trunk_of_row)
    assert Slots([0] * 6, CPU).size == 6
    assert Slots([2, 0, 1], CPU).size == 1


def test_packed_weights_and_shared_prefixes_go_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hydrometer.models.packing._LEAST_BYTES", 0)
    model = new_model()
    with packed_weights(model.network):
        assert start_rows_of(model) is SharedPrefixRows
