"""Networks in two halves: both together give the network's own logits, or the network is left whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build_network, build_tokenizer, ids, new_model, tiny_model
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from hydrometer.models import Warp, halves
from hydrometer.models.halves import comes_apart, logits_of, response_states
from hydrometer.models.transformers_model import Dtype, TransformersModel, load_model
from hydrometer.models.tree_pass import predicting_states, takes_trees

PROMPT, RESPONSE = ids("work it out"), ids("a b. c d e?|")
SHAPE = {
    "vocab_size": 39,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def network(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        match kind:
            case "softcap":
                found: PreTrainedModel = Gemma2ForCausalLM(Gemma2Config(**SHAPE, final_logit_softcapping=2.0))
            case "scale":
                found = GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=0.25))
            case "gpt2":
                found = GPT2LMHeadModel(GPT2Config(vocab_size=39, n_embd=32, n_layer=2, n_head=4, eos_token_id=1))
            case "experts":
                found = MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=2))
            case _:
                return build_network(kind)
        for parameter in found.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.35)
    return found.eval()


@pytest.mark.parametrize("kind", ["qwen3", "llama", "softcap", "scale", "gpt2", "experts"])
def test_scores_are_the_networks_own_logits_soft_caps_and_scales_included(kind: str):
    whole = network(kind)
    inputs = torch.tensor([[*PROMPT, *RESPONSE[:-1]]])
    with torch.no_grad():
        expected = whole(input_ids=inputs).logits[0, len(PROMPT) - 1 :]
    model = TransformersModel(kind, whole, build_tokenizer(), kind)
    found = torch.cat([chunk.logits for chunk in model.score(PROMPT, RESPONSE)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.3, "a network that says nothing would pass"


@pytest.mark.parametrize(("kind", "apart"), [("llama", True), ("softcap", True), ("scale", True), ("gpt2", True)])
def test_known_kinds_come_apart(kind: str, apart: bool):
    assert comes_apart(network(kind)) is apart


def test_rounding_of_the_pass_does_not_keep_a_network_whole(monkeypatch: pytest.MonkeyPatch):
    """A real network with a few huge activations magnifies it; whether the pass is right is another test's matter."""

    def rounded(*given: Any) -> Tensor:
        states = predicting_states(*given)
        return states + 5e-4 * states.abs().max() * torch.ones_like(states)

    monkeypatch.setattr(halves, "predicting_states", rounded)
    llama = network("llama")
    expected = llama(input_ids=torch.tensor([[*PROMPT, *RESPONSE[:-1]]])).logits[0, len(PROMPT) - 1 :]
    found = logits_of(llama, response_states(llama, PROMPT, [RESPONSE]))
    assert not torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert comes_apart(llama)


def test_a_network_that_does_more_after_its_body_is_left_whole():
    class Meddling(type(build_network())):
        def forward(self, input_ids=None, **named):
            found = super().forward(input_ids=input_ids, **named)
            found.logits = found.logits + input_ids[..., None]  # of the inputs, which the second half does not know
            return found

    meddling = Meddling(build_network().config).eval()
    assert not comes_apart(meddling)
    model = TransformersModel("meddling", meddling, build_tokenizer(), "")
    found = torch.cat([chunk.logits for chunk in model.score(PROMPT, RESPONSE)])
    with torch.no_grad():
        inputs = torch.tensor([[*PROMPT, *RESPONSE[:-1]]])
        expected = meddling(input_ids=inputs).logits[0, len(PROMPT) - 1 :]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    drawn = model.sampled_logprobs(PROMPT, [RESPONSE, RESPONSE[:3]], Warp())
    torch.testing.assert_close(
        torch.tensor(drawn[1]).float(), expected[:3].log_softmax(-1)[range(3), RESPONSE[:3]], rtol=1e-4, atol=1e-4
    )


def test_the_body_is_itself_again_after_the_logits():
    model = new_model()
    states = response_states(model.network, PROMPT, [RESPONSE])
    body = model.network.base_model
    logits_of(model.network, states)
    assert "forward" not in vars(body)
    torch.testing.assert_close(response_states(model.network, PROMPT, [RESPONSE]), states, rtol=0, atol=0)
    vars(body)["forward"] = mine = body.forward  # somebody else's, as device maps put there
    logits_of(model.network, states)
    assert vars(body)["forward"] is mine


def test_responses_in_one_pass_have_the_states_that_they_have_alone():
    network = tiny_model().network
    responses = [RESPONSE, RESPONSE[:2], RESPONSE[:7]]
    together = response_states(network, PROMPT, responses)
    alone = torch.cat([response_states(network, PROMPT, [response]) for response in responses])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


@pytest.mark.real_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_real_network_comes_apart(models_folder: Path, dtype: Dtype):
    network = load_model(str(models_folder / "smollm2-135m"), dtype=dtype).network
    assert comes_apart(network)
    assert takes_trees(network)
