"""A model behind an HTTP server that answers like vLLM: what it gives, what it asks for, what it refuses."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from scripted_server import Script, next_logits
from tiny_models import EOS, TOKENS, VOCAB

from hydrometer.errors import SpecError
from hydrometer.models import GREEDY, Warp, parse_model_spec, warp_logprobs
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.vllm.model import VllmModel, load_vllm
from hydrometer.runs.loader import Loader
from hydrometer.runs.options import MachineOptions
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler
from hydrometer.types import Message

END = TOKENS.index(EOS)
PROMPT = (7, 9, 12)


def logprobs_after(context: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(next_logits(context), dtype=torch.float64).log_softmax(-1)


def connect(address: str, folder: Path) -> VllmModel:
    spec = parse_model_spec(f"vllm:{address}#{folder}")
    return load_vllm(spec, dtype="float32", prompt_format=PromptFormat(), in_flight=None)


@pytest.fixture
def model(address: str, folder: Path) -> VllmModel:
    return connect(address, folder)


def test_the_text_side_is_that_of_the_model_s_files(model: VllmModel):
    assert model.render((Message("user", "ab"),)) == (2, 5, 6, 3)
    assert model.decode((5, 6, END)) == "ab"
    assert model.eos_ids == {END}
    assert model.vocab_size == model.output_size == VOCAB
    assert model.parameters > VOCAB * 32
    assert model.conventions().pad_id == 0


def test_scores_are_the_log_probabilities_before_every_response_token(
    model: VllmModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hydrometer.models.vllm.model._CHUNK_ELEMENTS", 3 * VOCAB)
    response = (5, 8, 8, 10, END)
    chunks = list(model.score(PROMPT, response))
    assert [chunk.start for chunk in chunks] == [0, 3]
    rows = torch.cat([chunk.logits for chunk in chunks])
    expected = torch.stack([logprobs_after((*PROMPT, *response[:t])) for t in range(len(response))])
    torch.testing.assert_close(rows.double(), expected, atol=1e-5, rtol=0)
    assert list(model.score(PROMPT, ())) == []


@pytest.mark.parametrize("warp", [Warp(), Warp(0.7, 0.8)], ids=["plain", "warped"])
def test_log_probabilities_of_many_responses(model: VllmModel, warp: Warp):
    responses = [(5, 8), (), (10, 11, END)]
    found = model.sampled_logprobs(PROMPT, responses, warp)
    for response, logprobs in zip(responses, found, strict=True):
        rows = [warp_logprobs(logprobs_after((*PROMPT, *response[:t])), warp) for t in range(len(response))]
        expected = [float(row[token]) for row, token in zip(rows, response, strict=True)]
        assert logprobs.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("warp", [Warp(), Warp(0.7, 0.8)], ids=["plain", "warped"])
def test_rollouts_bring_ids_ends_and_the_logprobs_they_were_drawn_with(model: VllmModel, warp: Warp):
    prefix = (5, 6)
    requests = [SampleRequest(PROMPT, prefix, seed) for seed in range(60)]
    drawn = build_sampler(model, SamplingSettings(6, warp)).sample(requests)
    assert build_sampler(model, SamplingSettings(6, warp)).sample(requests[30:31]) == drawn[30:31]
    assert {c.ended for c in drawn} == {True, False}
    for continuation in drawn:
        ids = continuation.token_ids
        assert continuation.ended == (ids[-1] == END)
        assert END not in ids[:-1]
        assert continuation.ended or len(ids) == 4
        contexts = [(*PROMPT, *prefix, *ids[:t]) for t in range(len(ids))]
        expected = [float(warp_logprobs(logprobs_after(c), warp)[i]) for c, i in zip(contexts, ids, strict=True)]
        assert continuation.logprobs == pytest.approx(expected, abs=1e-5)


def test_first_tokens_are_distributed_as_the_model_says(model: VllmModel):
    sampler = build_sampler(model, SamplingSettings(1))
    drawn = Counter(c.token_ids[0] for c in sampler.sample([SampleRequest(PROMPT, (), s) for s in range(400)]))
    probs = logprobs_after(PROMPT).exp()
    for token in probs.topk(3).indices.tolist():
        p = float(probs[token])
        assert abs(drawn[token] / 400 - p) < 4 * math.sqrt(p * (1 - p) / 400)


def test_every_request_switches_off_the_server_s_own_options(model: VllmModel, script: Script):
    script.seen.clear()
    build_sampler(model, SamplingSettings(4, Warp(0.7, 0.9))).sample([SampleRequest(PROMPT, (5,), 77)])
    [asked] = script.seen
    assert asked["prompt"] == [*PROMPT, 5]
    expected = {"seed": 77, "max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "n": 1}
    expected |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    expected |= {"ignore_eos": True, "stop_token_ids": [END], "stop": [], "min_tokens": 0, "watermarking": False}
    expected |= {"add_special_tokens": False, "return_token_ids": True, "logit_bias": None}
    assert expected.items() <= asked.items()


@pytest.mark.parametrize("cap", [0, 5, 20])
def test_a_capped_server_samples_and_is_refused_as_a_scorer(script: Script, address: str, folder: Path, cap: int):
    script.cap = cap
    model = connect(address, folder)
    assert model.cap == cap
    [drawn] = build_sampler(model, SamplingSettings(4)).sample([SampleRequest(PROMPT, (), 3)])
    [scored] = model.sampled_logprobs(PROMPT, [drawn.token_ids], Warp())
    assert drawn.logprobs == pytest.approx(scored.tolist(), abs=1e-5)
    with pytest.raises(SpecError, match=rf"at most {cap} of {VOCAB} .* takes all .* --max-logprobs -1"):
        next(model.score(PROMPT, (5,)))


def test_raw_log_probabilities_are_refused_where_they_are_of_another_distribution(
    script: Script, address: str, folder: Path
):
    script.is_processed = False
    model = connect(address, folder)
    assert not model.abilities.is_processed
    request = SampleRequest(PROMPT, (), 5)
    for warp in (Warp(0.7), Warp(top_p=0.9)):
        with pytest.raises(SpecError, match="--logprobs-mode processed_logprobs"):
            build_sampler(model, SamplingSettings(4, warp))
    [plain] = build_sampler(model, SamplingSettings(4)).sample([request])
    assert plain.logprobs[0] == pytest.approx(float(logprobs_after(PROMPT)[plain.token_ids[0]]), abs=1e-5)
    [greedy] = build_sampler(model, SamplingSettings(4, GREEDY)).sample([request])
    assert greedy.token_ids[0] == int(logprobs_after(PROMPT).argmax())
    assert set(greedy.logprobs) == {0.0}


def test_a_vocabulary_that_was_cut_is_never_left(model: VllmModel):
    model.vocab_size = 12
    drawn = build_sampler(model, SamplingSettings(3)).sample([SampleRequest(PROMPT, (), s) for s in range(80)])
    assert max(token for c in drawn for token in c.token_ids) < 12
    expected = logprobs_after(PROMPT)[:12].log_softmax(-1)
    assert drawn[0].logprobs[0] == pytest.approx(float(expected[drawn[0].token_ids[0]]), abs=1e-5)
    [chunk] = model.score(PROMPT, (5,))
    assert chunk.logits.shape == (1, 12)
    [cut] = model.sampled_logprobs(PROMPT, [(5,)], Warp())
    assert cut[0] == pytest.approx(float(expected[5]), abs=1e-5)


def test_what_vllm_cannot_do_is_refused(model: VllmModel, script: Script):
    with pytest.raises(SpecError, match=r"temperatures from 0\.01 on"):
        build_sampler(model, SamplingSettings(4, Warp(0.001)))
    script.seen.clear()
    with pytest.raises(SpecError, match=r"texts of 256 tokens, .* come to 303\. Raise vLLM's --max-model-len"):
        build_sampler(model, SamplingSettings(300)).sample([SampleRequest(PROMPT, (), 1)])
    with pytest.raises(SpecError, match="--max-model-len"):
        next(model.score(PROMPT * 90, (5,)))
    assert not script.seen, "a text without room costs nothing"
    with pytest.raises(ValueError, match="without a prompt"):
        next(model.score((), (5,)))


def test_the_loader_takes_a_server_for_everything_but_training(address: str, folder: Path):
    loader = Loader(MachineOptions(batch_size=3))
    spec = f"vllm:{address}#{folder}"
    model = loader.load(spec, PromptFormat())
    assert isinstance(model, VllmModel)
    assert loader.load(spec, PromptFormat()) is model
    with pytest.raises(SpecError, match="cannot take part in training, which changes the student's weights"):
        loader.load_weights(spec, PromptFormat())


def test_an_engine_of_one_s_own_without_vllm_is_told():
    spec = parse_model_spec("vllm:bundled:student")
    with pytest.raises(SpecError, match=r"needs vLLM in this environment .*\n.*name a server: vllm:http"):
        load_vllm(spec, dtype="float32", prompt_format=PromptFormat(), in_flight=None)
