"""Rows joined to a prefix tree, and the network's pass over it against passes over each row alone."""

from typing import Any

import pytest
import torch
from tiny_models import build_network
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer

from hydrometer.models.rows import join_rows
from hydrometer.models.tree_pass import predicting_states, prefix_caches, takes_trees
from hydrometer.training import micro_batches
from hydrometer.training.micro_batches import split_rows

PROMPTS = [(5, 6, 7), (5, 6, 7), (5, 6, 8, 9), (4,), (5, 6, 7)]
RESPONSES = [(10, 11, 12), (10, 13), (10, 11), (5, 6, 7, 8, 9, 10), (10, 11, 14, 15)]
CPU = torch.device("cpu")


def alone(network: PreTrainedModel, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    states = network.base_model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).last_hidden_state
    return states[0, len(prompt) - 1 : -1]


def build(kind: str) -> PreTrainedModel:
    """In float64, so that only real differences are seen."""
    shape: dict[str, Any] = {"vocab_size": 32, "num_hidden_layers": 2}
    match kind:
        case "mistral":
            sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
            network = MistralForCausalLM(MistralConfig(sliding_window=3, **sizes, **shape))
        case "gpt2":
            network = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4, n_positions=32))
        case _:
            network = build_network(kind, vocab=32)
    return network.eval().double()


def test_a_distinct_prefix_is_one_node() -> None:
    rows = join_rows(PROMPTS, RESPONSES, device=CPU)
    whole = [(*prompt, *response) for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    prefixes = {row[: end + 1] for row in whole for end in range(len(row) - 1)}
    assert len(rows.token_ids) == len(prefixes) == 15
    for number, row in enumerate(whole):
        nodes = rows.nodes[number, : len(row) - 1]
        assert rows.token_ids[nodes].tolist() == list(row[:-1])
        assert rows.depths[nodes].tolist() == list(range(len(row) - 1))
    assert rows.nodes.flatten()[rows.places].tolist() == list(range(len(prefixes)))
    assert rows.targets.tolist() == [token for response in RESPONSES for token in response]
    assert len(rows.predicts) == len(rows.targets)
    assert rows.predicts[0] == rows.predicts[3], "one prompt predicts the first token of both its responses"


@pytest.mark.parametrize(("kind", "is_taken"), [("qwen3", True), ("llama", True), ("gpt2", True), ("mistral", False)])
def test_hidden_states_and_gradients_are_those_of_each_row_alone(kind: str, is_taken: bool) -> None:
    """Mistral's window of three tokens is what a tree pass would overlook."""
    network = build(kind)
    rows = join_rows(PROMPTS, RESPONSES, device=CPU)
    expected = torch.cat([alone(network, *row) for row in zip(PROMPTS, RESPONSES, strict=True)])
    found = predicting_states(network, rows)
    assert takes_trees(network) is is_taken
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    slopes = torch.linspace(-1.0, 1.0, expected.numel(), dtype=torch.float64).sin().view_as(expected)
    wanted = list(network.base_model.parameters())
    for one, other in zip(
        torch.autograd.grad((found * slopes).sum(), wanted),
        torch.autograd.grad((expected * slopes).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2"])
def test_keys_and_values_of_prefixes_are_those_of_each_alone(kind: str) -> None:
    network = build(kind)
    prefixes = [(5, 6, 7, 10, 11), (5, 6, 8), (4,), (5, 6, 7, 10, 12, 13)]
    with torch.no_grad():
        found = prefix_caches(network, prefixes)
        for row, prefix in enumerate(prefixes):
            cache = DynamicCache(config=network.config)
            network.base_model(input_ids=torch.tensor([prefix]), past_key_values=cache, use_cache=True)
            for layer, states in zip(cache.layers, found, strict=True):
                assert isinstance(layer, DynamicLayer)
                for expected, own in zip((layer.keys, layer.values), states, strict=True):
                    assert expected is not None
                    torch.testing.assert_close(own[row, :, : len(prefix)], expected[0], rtol=1e-6, atol=1e-6)


def test_a_network_that_does_not_know_of_trees_gets_padded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose layers lose what is handed on to the attention."""
    network = build("llama")
    plain = network.base_model.forward
    monkeypatch.setattr(network.base_model, "forward", lambda rows=None, **named: plain(**named))
    expected = torch.cat([alone(network, *row) for row in zip(PROMPTS, RESPONSES, strict=True)])
    found = predicting_states(network, join_rows(PROMPTS, RESPONSES, device=CPU))
    assert not takes_trees(network)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_micro_batches_keep_a_prompt_together_and_count_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, lengths = [(1,) * 6, (2,) * 4, (1,) * 6, (2,) * 4, (1,) * 6], [3, 2, 1, 4, 2]
    monkeypatch.setattr(micro_batches, "_most_tokens", lambda network: 11)
    assert split_rows(prompts, lengths, None, build("llama")) == [[1, 3], [2, 4, 0]]  # 10 and 12 of 22 tokens
    monkeypatch.setattr(micro_batches, "_most_tokens", lambda network: 9)
    assert split_rows(prompts, lengths, None, build("mistral")) == [[1], [3], [2], [4], [0]]  # 8 or 9 places each
    assert split_rows(prompts, lengths, 3, build("llama")) == [[1, 3, 2], [4, 0]]
    assert split_rows([], [], None, build("llama")) == []
