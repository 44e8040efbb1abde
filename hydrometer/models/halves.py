"""A network in two halves: the pass that makes the last hidden states, and what turns those into logits.

The second half is the network's own forward, whose body answers with the states that it is given, so that soft caps and
scales are the network's own. A state has as many numbers as the model is wide, where logits have one for each token of
the vocabulary: those of a whole response can be held, or kept on a disk. Whether a network comes apart like this is
tried on a few tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from hydrometer.matmul import fast_matmul
from hydrometer.models.rows import join_rows
from hydrometer.models.tree_pass import predicting_states

PASS_TOKENS = 4096
"""Tokens of one pass; a longer text goes over a key-value cache."""
_TRIED_TOKENS = 6
_ROUNDING = 1e-4
"""Largest norm of the difference between both ways, as a share of the norm: one product is made by another library."""
_KNOWN: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


class _Answer(BaseModelOutputWithPast):
    """Hidden states and nothing else, whatever more a network reads from its body's output."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@torch.inference_mode()
def response_states(
    network: PreTrainedModel, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]
) -> Float[Tensor, "token width"]:
    """The last hidden states that predict the tokens of responses to one prompt, response after response.

    Several responses share one pass, in which the prompt and all else that they begin with is computed once.
    """
    if len(responses) > 1 or len(prompt_ids) + len(responses[0]) <= PASS_TOKENS:
        return predicting_states(
            network, join_rows([prompt_ids] * len(responses), responses, device=network.device)
        ).clone()
    cache = DynamicCache()
    parts = [
        network.base_model(input_ids=part, past_key_values=cache, use_cache=True).last_hidden_state[0]
        for part in torch.tensor([*prompt_ids, *responses[0][:-1]], device=network.device)[None].split(
            PASS_TOKENS, dim=1
        )
    ]
    return torch.cat(parts)[-len(responses[0]) :].clone()


@torch.inference_mode()
def logits_of(network: PreTrainedModel, states: Float[Tensor, "token width"]) -> Float[Tensor, "token vocab"]:
    """The network's logits where its last hidden states are these, in its dtype."""
    nothing = torch.zeros(1, len(states), dtype=torch.int64, device=states.device)
    with _body_answers(network.base_model, states[None]), fast_matmul(states.device):
        return network(input_ids=nothing, use_cache=False).logits[0]


def comes_apart(network: PreTrainedModel) -> bool:
    """Whether both halves together give the network's own logits; tried once for each network."""
    if network not in _KNOWN:
        _KNOWN[network] = _agrees(network)
    return _KNOWN[network]


@torch.inference_mode()
def _agrees(network: PreTrainedModel) -> bool:
    if network.base_model is network:
        return False
    ids = torch.arange(min(_TRIED_TOKENS, network.config.get_text_config().vocab_size), device=network.device)[None]
    expected = network(input_ids=ids, use_cache=False).logits[0]
    try:
        # the states of the same pass: those of a pass over a tree have rounding of their own, which a network with a
        # few huge activations magnifies, and are compared with these by their own measure (`takes_trees`)
        found = logits_of(network, network.base_model(input_ids=ids, use_cache=False).last_hidden_state[0])
    except Exception:  # networks fail in their own ways on an answer that they do not know
        return False
    return found.shape == expected.shape and bool((found - expected).norm() <= _ROUNDING * expected.norm())


@contextmanager
def _body_answers(body: nn.Module, states: Float[Tensor, "1 token width"]) -> Iterator[None]:
    """The body gives these states whatever it is asked, while it is entered."""
    own = vars(body)
    before = own.get("forward")

    def answer(*_: Any, **__: Any) -> _Answer:
        return _Answer(last_hidden_state=states)  # pyright: ignore[reportArgumentType]

    own["forward"] = answer
    try:
        yield
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before
