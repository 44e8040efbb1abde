"""Weights in another layout: the same numbers, only while it lasts, and only where that can be had."""

import pytest
import torch
from tiny_models import build_network, new_model
from torch import nn

from hydrometer.models import packing
from hydrometer.models.packing import packed_weights
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler, transformers_sampler

IDS = torch.arange(5, 29).view(2, 12)
can_pack = pytest.mark.skipif(not packing._agrees(), reason="torch has no such operators here")


@pytest.fixture
def small_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_LEAST_BYTES", 0)


def replaced(network: nn.Module) -> int:
    return sum("forward" in vars(module) for module in network.modules())


@can_pack
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "tie_word_embeddings": True}])
def test_logits_are_those_of_the_plain_layers(small_is_enough: None, changes: dict[str, bool]) -> None:
    network = build_network("qwen3", seed=3, **changes)
    linear = sum(type(module) is nn.Linear for module in network.modules())
    with torch.inference_mode():
        expected = network(IDS).logits
        with packed_weights(network):
            assert replaced(network) == linear == 15
            torch.testing.assert_close(network(IDS).logits, expected, rtol=1e-4, atol=1e-4)
        assert replaced(network) == 0
        network.get_output_embeddings().weight.mul_(2.0)
        with packed_weights(network):
            torch.testing.assert_close(network(IDS).logits, network.lm_head(network.base_model(IDS)[0]))
            assert (network(IDS).logits - expected).abs().max() > 0.1


def test_layers_come_back_after_an_error(small_is_enough: None) -> None:
    network = build_network()
    with pytest.raises(KeyError), packed_weights(network):
        raise KeyError
    assert replaced(network) == 0


@pytest.mark.parametrize("case", ["small", "large", "half", "missing", "wrong"])
def test_nothing_is_replaced_where_it_cannot_help(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network()
    if case != "small":
        monkeypatch.setattr(packing, "_LEAST_BYTES", 0)
    match case:
        case "large":
            monkeypatch.setattr(packing, "_MOST_BYTES", 1000)
        case "half":
            network = network.to(torch.bfloat16)
        case "missing":
            monkeypatch.setattr(packing, "_pack", lambda layer: torch.ops.mkldnn._no_such_operator)
        case "wrong":
            monkeypatch.setattr(packing, "_pack", lambda layer: lambda inputs: layer(inputs) * 1.001)
    with packed_weights(network):
        assert replaced(network) == 0


@can_pack
def test_the_sampler_draws_from_packed_weights_what_it_draws_from_plain_ones(
    small_is_enough: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    requests = [SampleRequest((5, 6, 7 + i % 3), (), i) for i in range(6)]
    sampler = build_sampler(model, SamplingSettings(40))
    seen: list[int] = []
    handle = model.network.register_forward_pre_hook(lambda *_: seen.append(replaced(model.network)))
    packed = sampler.sample(requests)
    monkeypatch.setattr(transformers_sampler, "_TOKENS_WORTH_PACKING", 41)
    plain = sampler.sample(requests)
    handle.remove()
    assert set(seen) == {0, 15}
    assert [c.token_ids for c in packed] == [c.token_ids for c in plain]
    for one, other in zip(packed, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
