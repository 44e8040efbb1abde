"""Real vLLM servers: hidden defaults, the cap they start with, and a crash in the middle of sampling."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import save_checkpoint
from vllm_server import VllmServer, vllm_server

from hydrometer.artifacts.model_identity import is_same_model
from hydrometer.errors import SpecError
from hydrometer.models import Warp, parse_model_spec
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.transformers_model import load_model
from hydrometer.models.vllm.model import VllmModel, load_vllm
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler

pytestmark = pytest.mark.vllm
SHAPE = {"kind": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
PROMPT = (7, 9, 12)
BENT = {"do_sample": True, "temperature": 0.3, "top_k": 2, "top_p": 0.5, "repetition_penalty": 1.5, "eos_token_id": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose generation config asks for everything that would bend its distribution."""
    folder = save_checkpoint(tmp_path_factory.mktemp("model"), spread=0.3, **SHAPE)
    (folder / "generation_config.json").write_text(json.dumps(BENT))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[VllmServer]:
    """With the options that vLLM starts with by itself."""
    with vllm_server(folder, folder.parent / "log.txt") as server:
        yield server


def connect(server: VllmServer, folder: Path) -> VllmModel:
    spec = parse_model_spec(f"vllm:{server.address}#{folder}")
    return load_vllm(spec, dtype="float32", prompt_format=PromptFormat(), in_flight=32)


def draw(model: VllmModel, count: int, limit: int) -> list[Continuation]:
    requests = [SampleRequest(PROMPT, (), seed) for seed in range(count)]
    return build_sampler(model, SamplingSettings(limit)).sample(requests)


def test_a_server_as_it_starts_is_capped_and_samples_from_p(server: VllmServer, folder: Path):
    model = connect(server, folder)
    assert model.cap == 20
    assert not model.abilities.is_processed
    with pytest.raises(SpecError, match="at most 20 of 39 log-probabilities"):
        next(model.score(PROMPT, (5,)))
    with pytest.raises(SpecError, match="processed_logprobs"):
        build_sampler(model, SamplingSettings(4, Warp(0.7)))
    twin = load_model(str(folder))
    drawn = draw(model, 300, 6)
    scored = twin.sampled_logprobs(PROMPT, [c.token_ids for c in drawn], Warp())
    read = model.sampled_logprobs(PROMPT, [c.token_ids for c in drawn[:20]], Warp())
    for number, continuation in enumerate(drawn):
        assert continuation.logprobs == pytest.approx(scored[number].tolist(), abs=1e-4)
    for number, logprobs in enumerate(read):
        assert logprobs.tolist() == pytest.approx(scored[number].tolist(), abs=1e-4)
    [chunk] = twin.score(PROMPT, (5,))
    probs = chunk.logits[0].double().softmax(-1)
    counts = Counter(c.token_ids[0] for c in drawn)
    assert len(counts) > 5, "the server's own top_k of 2 plays no part"
    for token in probs.topk(4).indices.tolist():
        p = float(probs[token])
        assert abs(counts[token] / 300 - p) < 4 * (p * (1 - p) / 300) ** 0.5


def test_a_server_that_is_killed_and_started_again_gives_the_same_rollouts(server: VllmServer, folder: Path):
    model = connect(server, folder)
    expected = draw(model, 200, 60)
    said: list[str] = []
    model.engine.say = said.append
    found: list[list[Continuation]] = []
    drawing = threading.Thread(target=lambda: found.append(draw(model, 200, 60)))
    drawing.start()
    time.sleep(0.5)
    server.kill()
    assert drawing.is_alive(), "it was killed in the middle"
    server.start()
    drawing.join(timeout=240)
    assert [c.token_ids for c in found[0]] == [c.token_ids for c in expected]
    assert ["does not answer" in said[0], "answers again" in said[-1]] == [True, True]
    assert is_same_model(connect(server, folder).fingerprint, model.fingerprint)


def test_vllm_in_this_process_gives_what_transformers_gives(folder: Path, tmp_path: Path):
    script = f"""
import json
from hydrometer.models import parse_model_spec
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.vllm.model import load_vllm
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler

if __name__ == "__main__":
    spec = parse_model_spec("vllm:{folder}")
    model = load_vllm(spec, dtype="float32", prompt_format=PromptFormat(), in_flight=None)
    requests = [SampleRequest({PROMPT}, (), seed) for seed in range(50)]
    drawn = build_sampler(model, SamplingSettings(6)).sample(requests)
    again = build_sampler(model, SamplingSettings(6)).sample(requests[7:8])
    [chunk] = model.score({PROMPT}, (5, 8, 1))
    said = {{"drawn": drawn, "again": again, "rows": chunk.logits.tolist(), "cap": model.cap,
            "processed": model.abilities.is_processed, "fingerprint": model.fingerprint}}
    open({str(tmp_path / "said.json")!r}, "w").write(json.dumps(said))
"""
    (tmp_path / "run.py").write_text(script)
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0",
    }
    python = os.environ["HYDROMETER_VLLM_PYTHON"]
    ran = subprocess.run([python, "run.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads((tmp_path / "said.json").read_text())
    twin = load_model(str(folder))
    assert said["cap"] is None
    assert said["processed"]
    [chunk] = twin.score(PROMPT, (5, 8, 1))
    torch.testing.assert_close(
        torch.tensor(said["rows"]).log_softmax(-1), chunk.logits.log_softmax(-1), atol=1e-4, rtol=0
    )
    scored = twin.sampled_logprobs(PROMPT, [ids for ids, _, _ in said["drawn"]], Warp())
    for (_, logprobs, _), expected in zip(said["drawn"], scored, strict=True):
        assert logprobs == pytest.approx(expected.tolist(), abs=1e-4)
    assert said["again"][0][0] == said["drawn"][7][0]
