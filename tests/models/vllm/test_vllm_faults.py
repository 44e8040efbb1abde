"""Servers that go away, come back, stay dead, change, or talk nonsense."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Handler, Script, breaks_off, fails, hangs, next_logits, serving
from tiny_models import EOS, TOKENS, VOCAB

from hydrometer.errors import UserError
from hydrometer.models import parse_model_spec
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.vllm.engine import EngineError, RefusedError
from hydrometer.models.vllm.model import VllmModel, load_vllm
from hydrometer.models.vllm.server import Patience
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler

END = TOKENS.index(EOS)
PROMPT = (7, 9, 12)
REQUESTS = [SampleRequest(PROMPT, (), seed) for seed in range(20)]


def other_logits(context: tuple[int, ...]) -> list[float]:
    """Of a model that was trained on for a while."""
    return (np.array(next_logits(context)) + np.random.default_rng([2, *context[-4:]]).normal(size=VOCAB)).tolist()


def connect(address: str, folder: Path, *, outage_s: float = 30.0, request_s: float = 30.0) -> VllmModel:
    spec = parse_model_spec(f"vllm:{address}#{folder}")
    model = load_vllm(spec, dtype="float32", prompt_format=PromptFormat(), in_flight=8)
    model.engine.patience = Patience(request_s, outage_s)  # type: ignore[attr-defined]
    return model


def draw(model: VllmModel) -> list[Continuation]:
    return build_sampler(model, SamplingSettings(6)).sample(REQUESTS)


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1].split("/")[0])


@pytest.mark.parametrize(
    "fault",
    [fails(500), fails(503, b"<html>502 Bad Gateway</html>"), fails(429), breaks_off, hangs(4.0)],
    ids=["500", "html_of_a_proxy", "too_many_requests", "breaks_off", "hangs"],
)
def test_a_fault_that_passes_changes_nothing_but_the_time(
    script: Script, address: str, folder: Path, fault: Callable[[Handler], None]
):
    model = connect(address, folder, request_s=2.0)
    expected = draw(model)
    said: list[str] = []
    model.engine.say = said.append
    script.faults += [fault, fault]
    assert draw(model) == expected
    assert not script.faults
    assert "does not answer" in said[0]
    assert said[-1] == f"{address} answers again."


def test_a_server_that_restarts_is_waited_for(script: Script, folder: Path):
    with serving(script) as address:
        model = connect(address, folder)
        expected = draw(model)
    said: list[str] = []
    model.engine.say = said.append
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(draw(model)))
    waiting.start()
    time.sleep(0.7)
    assert waiting.is_alive()
    with serving(script, port_of(address)):
        waiting.join(timeout=20)
        assert found == [expected]
    assert ["does not answer" in said[0], "answers again" in said[1], len(said)] == [True, True, 2]


def test_a_server_that_stays_dead_ends_the_run_with_what_to_do(script: Script, folder: Path):
    with serving(script) as address:
        model = connect(address, folder, outage_s=0.8)
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"stayed away: .*\nStart it again and go on with --resume"):
        draw(model)
    assert 0.7 < time.monotonic() - began < 8


def test_a_request_that_fails_among_others_that_do_not_is_given_up(
    script: Script, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hydrometer.models.vllm.server._LONGEST_PAUSE_S", 0.02)
    model = connect(address, folder)

    # the server is up and grants the look at its model, and fails on this request alone
    monkeypatch.setattr(type(model.engine), "_measure_identity", lambda engine: engine.identity)
    script.faults += [fails(500, b"out of memory")] * 10
    with pytest.raises(EngineError, match="failed 10 times on one request: status 500: out of memory"):
        build_sampler(model, SamplingSettings(6)).sample([REQUESTS[7]])


def test_a_server_that_is_back_with_other_weights_is_refused(script: Script, folder: Path):
    with serving(script) as address:
        model = connect(address, folder)
    script.next_logits = other_logits
    with (
        serving(script, port_of(address)),
        pytest.raises(EngineError, match="is back with other weights"),
    ):
        script.faults.append(fails(500))
        draw(model)


def first(body: dict[str, Any]) -> dict[str, Any]:
    return body["choices"][0]


def spoilt(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], Any]:
    def spoil(body: dict[str, Any]) -> dict[str, Any]:
        change(first(body))
        return body

    return spoil


NONSENSE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "html": (lambda _: b"<html>hello</html>", r"other than vLLM's JSON: '<html>hello</html>'\nExpected the address"),
    "a_list": (lambda _: [], "is not what vLLM sends"),
    "no_choices": (lambda _: {"choices": []}, "is not what vLLM sends"),
    "no_ids": (spoilt(lambda c: c.update(token_ids=None)), "holds no token ids"),
    "other_prompt": (spoilt(lambda c: c.update(prompt_token_ids=[1, *PROMPT])), "came back with other token ids"),
    "no_logprobs": (spoilt(lambda c: c.update(logprobs=None)), "is not what vLLM sends"),
    "other_tokens": (spoilt(lambda c: c["logprobs"].update(tokens=["a"])), "is not what vLLM sends"),
    "ids_of_others": (
        spoilt(lambda c: c["logprobs"].update(tokens=[f"token_id:{i + 1}" for i in c["token_ids"]])),
        "are of other tokens than it drew",
    ),
    "nan": (
        spoilt(lambda c: c["logprobs"].update(token_logprobs=[float("nan")] * len(c["token_ids"]))),
        "log-probabilities",
    ),
    "too_few": (spoilt(lambda c: c["logprobs"].update(token_logprobs=[])), "came with 0 log-probabilities"),
    "logits": (
        spoilt(lambda c: c["logprobs"].update(token_logprobs=[9.5] * len(c["token_ids"]))),
        r"a log-probability of 9.5 is above 0.* --logprobs-mode",
    ),
    "drops_the_end": (
        spoilt(lambda c: (c["token_ids"].pop(), [v.pop() for v in c["logprobs"].values()])),
        "stops after|drew 0 tokens",
    ),
    "too_many": (
        spoilt(lambda c: (c["token_ids"].extend([5] * 9), c["logprobs"]["tokens"].extend(["token_id:5"] * 9))),
        "tokens where 1 to 6 were asked for",
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_never_taken_for_an_answer(script: Script, address: str, folder: Path, kind: str):
    model = connect(address, folder)
    script.spoil, words = NONSENSE[kind]
    with pytest.raises(EngineError, match=words):
        draw(model)


def test_an_incomplete_vocabulary_is_never_filled_in(script: Script, address: str, folder: Path):
    model = connect(address, folder)
    script.spoil = spoilt(lambda c: c["logprobs"]["top_logprobs"][0].popitem())
    with pytest.raises(EngineError, match="log-probabilities of 39 tokens, vLLM left out 1 of them"):
        list(model.score(PROMPT, (5,)))


def test_a_refusal_ends_all_other_requests_at_once(script: Script, address: str, folder: Path):
    model = connect(address, folder)
    script.faults += [fails(400, b'{"error": {"message": "no such option"}}'), *[hangs(20.0)] * 30]
    began = time.monotonic()
    with pytest.raises(RefusedError, match=r"refuses a request \(status 400\): no such option"):
        draw(model)
    assert time.monotonic() - began < 10


def test_a_key_comes_from_the_environment_and_is_never_repeated(
    script: Script, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    script.key = "sesame-open-now"
    monkeypatch.setenv("VLLM_API_KEY", "another-wrong-key")
    with pytest.raises(EngineError, match=r"wants another key \(status 401\).* from VLLM_API_KEY") as caught:
        connect(address, folder)
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("VLLM_API_KEY", script.key)
    assert len(draw(connect(address, folder))) == 20
    script.spoil = lambda _: b"you said sesame-open-now"
    with pytest.raises(EngineError, match=r"you said \*\*\*"):
        draw(connect(address, folder))


def test_no_server_is_told_at_once(folder: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UserError, match=f"No vLLM server answers at http://127.0.0.1:{port}/v1: .*refused"):
        connect(f"http://127.0.0.1:{port}/v1", folder)
    assert time.monotonic() - began < 10


def test_a_server_of_another_model_is_told_with_what_it_serves(script: Script, address: str, folder: Path):
    script.name = "meta/other"
    with pytest.raises(UserError, match=r"serves meta/other, and not '.*'\.\n.*--served-model-name"):
        connect(address, folder)


def test_another_path_is_no_server(address: str, folder: Path):
    with pytest.raises(UserError, match="Expected the address of vLLM's OpenAI interface, http://HOST:PORT/v1"):
        connect(address.removesuffix("/v1"), folder)


def test_a_model_with_another_vocabulary_is_told(script: Script, address: str, folder: Path):
    script.vocab = VOCAB - 3
    script.next_logits = lambda context: next_logits(context)[: VOCAB - 3]
    with pytest.raises(UserError):
        connect(address, folder)
