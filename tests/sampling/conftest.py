from functools import cache

import numpy as np
import pytest
from reference_loops import Model
from tiny_models import new_model

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


@pytest.fixture(scope="session", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> Model:
    return BACKENDS[request.param]()
