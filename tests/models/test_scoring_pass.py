"""`score` against whole forward passes: positions, chunks, memory, edges."""

import pytest
import torch
from reference_loops import next_logits
from tiny_models import VOCAB, ids, new_model, tiny_model

from hydrometer.models import halves, transformers_model
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import takes_trees

PROMPT = ids("work it out")
RESPONSE = ids("a b. c d e?|")


def scored(model: TransformersModel, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    rows = []
    for chunk in model.score(prompt, response):
        assert chunk.start == sum(map(len, rows))
        rows.append(chunk.logits)
    return torch.cat(rows)


@pytest.fixture(params=["qwen3", "llama", "sliding_window"])
def model(request: pytest.FixtureRequest) -> TransformersModel:
    if request.param == "sliding_window":
        return new_model("qwen3", use_sliding_window=True, sliding_window=3, max_window_layers=1)
    return tiny_model(request.param)


@pytest.fixture(params=[True, False], ids=["halves", "whole"])
def is_halved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(transformers_model, "comes_apart", lambda network: request.param)
    return request.param


def hold(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """So many rows of logits at a time."""
    monkeypatch.setattr(transformers_model, "_CHUNK_BYTES", 4 * (rows * VOCAB + VOCAB - 1))
    monkeypatch.setattr(transformers_model, "_LEAST_ROWS", 1)


@pytest.mark.parametrize("chunk", [1, 2, 5, 12, 100])
def test_every_position_is_a_forward_pass_over_what_stands_before_it(
    model: TransformersModel, chunk: int, is_halved: bool, monkeypatch: pytest.MonkeyPatch
):
    hold(monkeypatch, chunk)
    logits = scored(model, PROMPT, RESPONSE)
    assert logits.shape == (len(RESPONSE), VOCAB)
    for t in range(len(RESPONSE)):
        assert logits[t].tolist() == pytest.approx(next_logits(model, PROMPT, RESPONSE[:t]), abs=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize(("prompt", "response"), [("a", "b"), ("a", "bcde|"), ("abc", "|")])
def test_single_tokens_are_prompt_and_response_enough(
    prompt: str, response: str, chunk: int, is_halved: bool, monkeypatch: pytest.MonkeyPatch
):
    hold(monkeypatch, chunk)
    model = tiny_model()
    logits = scored(model, ids(prompt), ids(response))
    for t in range(len(response)):
        assert logits[t].tolist() == pytest.approx(next_logits(model, ids(prompt), ids(response)[:t]), abs=1e-4)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "sliding_window"])
@pytest.mark.parametrize("most", [1, 5, 14])
def test_a_text_that_is_too_long_for_one_pass_goes_over_a_cache(kind: str, most: int, monkeypatch: pytest.MonkeyPatch):
    sliding = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
    model = new_model("qwen3", **sliding) if kind == "sliding_window" else tiny_model(kind)
    whole = scored(model, PROMPT, RESPONSE)
    fed: list[int] = []
    hook = model.network.base_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: fed.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    monkeypatch.setattr(halves, "PASS_TOKENS", most)
    parts = scored(model, PROMPT, RESPONSE)
    hook.remove()
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)
    length = len(PROMPT) + len(RESPONSE) - 1
    assert fed[:-1] == [most] * (length // most) + ([length % most] if length % most else []), "the last is the head's"


def test_the_last_response_token_is_never_an_input():
    model = tiny_model()
    first, second = scored(model, PROMPT, ids("ab|")), scored(model, PROMPT, ids("abz"))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("chunk", [1, 4])
def test_no_pass_makes_more_logits_than_one_chunk(chunk: int, is_halved: bool, monkeypatch: pytest.MonkeyPatch):
    model = new_model()
    hold(monkeypatch, chunk)
    sizes: list[int] = []
    head = model.network.get_output_embeddings()
    head.register_forward_hook(lambda _module, _args, output: sizes.append(output.numel()))
    scored(model, PROMPT * 5, RESPONSE)
    assert max(sizes) == chunk * VOCAB
    own = 0 if is_halved else 1  # for the end of the prompt's own pass
    assert sum(sizes) == (len(RESPONSE) + own) * VOCAB


def test_with_a_large_vocabulary_a_chunk_is_still_worth_reading_the_output_layer_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transformers_model, "_CHUNK_BYTES", 1)
    assert len(next(tiny_model().score(PROMPT, RESPONSE * 4)).logits) == 32


def test_prompt_and_response_are_computed_once_however_small_the_chunks(
    is_halved: bool, monkeypatch: pytest.MonkeyPatch
):
    model = new_model()
    hold(monkeypatch, 3)
    fed: list[int] = []
    takes_trees(model.network)  # which is tried once
    model.network.base_model.embed_tokens.register_forward_pre_hook(lambda _module, args: fed.append(args[0].shape[1]))
    scored(model, PROMPT, RESPONSE)
    assert fed == ([len(PROMPT) + len(RESPONSE) - 1] if is_halved else [len(PROMPT) - 1, 3, 3, 3, 3])
    assert sum(fed) == len(PROMPT) + len(RESPONSE) - 1


@pytest.mark.parametrize("most", [4096, 30])
def test_responses_to_one_prompt_are_scored_as_each_would_be_alone(
    model: TransformersModel, is_halved: bool, most: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transformers_model, "PASS_TOKENS", most)
    hold(monkeypatch, 5)
    responses = [RESPONSE, ids("a b. z"), RESPONSE[:7], (), ids("?"), RESPONSE]
    for response, chunks in zip(responses, model.score_each(PROMPT, responses), strict=True):
        logits = [chunk.logits for chunk in chunks]
        if response:
            torch.testing.assert_close(torch.cat(logits), scored(model, PROMPT, response), rtol=0, atol=1e-4)
        else:
            assert not logits


def test_a_prompt_is_computed_once_for_all_responses_that_fit_a_pass(monkeypatch: pytest.MonkeyPatch):
    model = new_model()
    scored(model, PROMPT, RESPONSE)  # what is tried once is tried
    fed: list[int] = []
    model.network.base_model.embed_tokens.register_forward_pre_hook(lambda _module, args: fed.append(args[0].shape[1]))
    responses = [ids("abc|"), ids("abd|"), ids("xyz|"), ids("w|")]
    list(model.score_each(PROMPT, responses))
    assert fed == [len(PROMPT) + len("abc") + len("d") + len("xyz") + len("w")]  # "ab" once; the last is no input
    fed.clear()
    monkeypatch.setattr(transformers_model, "PASS_TOKENS", len(PROMPT) + 8)
    each = model.score_each(PROMPT, responses)
    first = [next(each), next(each)]
    assert fed == [len(PROMPT) + len("abc") + len("d")], "a pass is made when its first response is asked for"
    assert len([*first, *each]) == 4
    assert fed[1:] == [len(PROMPT) + len("xyz") + len("w")]


def test_scores_carry_no_graph_and_inference_mode_stays_inside():
    for chunk in tiny_model().score(PROMPT, RESPONSE):
        assert not chunk.logits.requires_grad
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_a_model_cut_to_a_shared_vocabulary_scores_it_alone():
    model = new_model()
    model.vocab_size = 30
    torch.testing.assert_close(
        scored(model, PROMPT, RESPONSE), scored(tiny_model(), PROMPT, RESPONSE)[:, :30], rtol=0, atol=1e-6
    )


def test_an_empty_response_has_no_scores_and_an_empty_prompt_is_refused():
    assert list(tiny_model().score(PROMPT, ())) == []
    with pytest.raises(ValueError, match="without a prompt"):
        list(tiny_model().score((), RESPONSE))
