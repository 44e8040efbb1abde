from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from reference_loops import TWINS, Model
from tiny_models import new_model, save_checkpoint
from vllm_server import vllm_server

from hydrometer.models.prompting import PromptFormat
from hydrometer.models.transformers_model import load_model
from hydrometer.runs.loader import Loader
from hydrometer.runs.options import MachineOptions
from hydrometer.sampling import ScriptedModel

TOKENS = ("<pad>", "<eos>", "a", "b", "c", "d", "e", "f")


@cache
def script(prompt_ids: tuple[int, ...], response_ids: tuple[int, ...]) -> np.ndarray:
    """Depends on the whole prompt and the whole prefix; 'f' is impossible after 'a', `<pad>` always."""
    weights = np.random.default_rng([*prompt_ids, 99, *response_ids]).dirichlet(np.full(len(TOKENS), 0.7))
    weights[0] = 0.0
    if response_ids[-1:] == (2,):
        weights[7] = 0.0
    return weights / weights.sum()


BACKENDS = {
    "scripted": lambda: ScriptedModel(TOKENS, script),
    "qwen3": lambda: new_model("qwen3", vocab=8, spread=0.6),
    "llama": lambda: new_model("llama", vocab=8, spread=0.6),
    "sliding_window": lambda: new_model(
        "qwen3", vocab=8, spread=0.6, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "padded_output": lambda: _cut(new_model("qwen3", vocab=12, spread=0.6), 8),
}
"""Ids 0-7 are the shared vocabulary of each; id 1 ends a response."""


def _cut(model: Model, vocab_size: int) -> Model:
    model.vocab_size = vocab_size
    return model


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A network behind a real vLLM server, its output layer cut by four ids."""
    folder = tmp_path_factory.mktemp("served")
    save_checkpoint(
        folder,
        kind="llama",
        vocab=12,
        spread=0.45,
        seed=3,
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    options = ("--max-logprobs", "-1", "--logprobs-mode", "processed_logprobs")
    with vllm_server(folder, folder / "log.txt", *options) as server:
        spec = f"vllm:{server.address}#{folder}"
        TWINS[spec] = load_model(str(folder))
        yield _cut(Loader(MachineOptions()).load(spec, PromptFormat()), 8)


@pytest.fixture(params=[*BACKENDS, pytest.param("vllm", marks=pytest.mark.vllm)])
def model(request: pytest.FixtureRequest) -> Model:
    """Every sampler."""
    return _backend(request.param) if request.param in BACKENDS else request.getfixturevalue("served")


@pytest.fixture(params=BACKENDS)
def transforming_model(request: pytest.FixtureRequest) -> Model:
    """Samplers whose tokens are the inverse transforms of the numbers that a seed stands for."""
    return _backend(request.param)


_backend = cache(lambda name: BACKENDS[name]())
