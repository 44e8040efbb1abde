"""What the package computes in tensors, written again with plain loops over one forward pass per prefix."""

import math
from collections.abc import Sequence

import torch

from hydrometer.models import Warp
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.vllm.model import VllmModel
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, ScriptedModel, uniforms

Model = TransformersModel | ScriptedModel | VllmModel
TWINS: dict[str, TransformersModel] = {}
"""By spec of a model that vLLM serves: the same weights in this process."""


@torch.no_grad()
def next_logits(model: Model, context: Sequence[int], response: Sequence[int]) -> list[float]:
    """Logits after a prompt and some response tokens: one whole forward pass, no cache, no batch."""
    if isinstance(model, ScriptedModel):
        row = model.next_probs(tuple(context), tuple(response))[: model.vocab_size]
        return [math.log(p) if p else -math.inf for p in row]
    network = TWINS[model.spec].network if isinstance(model, VllmModel) else model.network
    logits = network(input_ids=torch.tensor([[*context, *response]]), use_cache=False).logits
    return logits[0, -1, : model.vocab_size].double().tolist()


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(value - top) for value in logits]
    return [weight / math.fsum(weights) for weight in weights]


def warp_by_hand(logits: Sequence[float], warp: Warp) -> list[float]:
    """Probabilities after temperature and top-p: take tokens from the most probable on until the mass is reached."""
    probs = softmax([value / warp.temperature for value in logits])
    kept: list[int] = []
    for token in sorted(range(len(probs)), key=lambda token: (-probs[token], token)):
        if kept and math.fsum(probs[i] for i in kept) >= warp.top_p:
            break
        kept.append(token)
    if warp.top_p >= 1.0:
        kept = list(range(len(probs)))
    mass = math.fsum(probs[i] for i in kept)
    return [probs[i] / mass if i in kept else 0.0 for i in range(len(probs))]


def next_probs(model: Model, context: Sequence[int], response: Sequence[int], warp: Warp) -> list[float]:
    return warp_by_hand(next_logits(model, context, response), warp)


def draw_by_hand(model: Model, request: SampleRequest, settings: SamplingSettings) -> Continuation:
    """Inverse transform, one token and one forward pass at a time."""
    drawn: list[int] = []
    logprobs: list[float] = []
    for number in uniforms(request.seed, settings.max_response_tokens - len(request.prefix_ids)):
        probs = next_probs(model, request.prompt_ids, (*request.prefix_ids, *drawn), settings.warp)
        token = next(token for token in range(len(probs)) if number < math.fsum(probs[: token + 1]))
        drawn.append(token)
        logprobs.append(math.log(probs[token]))
        if token in model.eos_ids:
            return Continuation(tuple(drawn), tuple(logprobs), True)
    return Continuation(tuple(drawn), tuple(logprobs), False)


def enumerate_responses(
    model: Model, prompt: Sequence[int], prefix: tuple[int, ...], settings: SamplingSettings
) -> dict[tuple[int, ...], float]:
    """Every continuation of a prefix with its probability."""
    found: dict[tuple[int, ...], float] = {}

    def walk(drawn: tuple[int, ...], mass: float) -> None:
        ended = bool(drawn) and drawn[-1] in model.eos_ids
        if ended or len(prefix) + len(drawn) == settings.max_response_tokens:
            found[drawn] = mass
            return
        for token, p in enumerate(next_probs(model, prompt, (*prefix, *drawn), settings.warp)):
            if p > 0.0:
                walk((*drawn, token), mass * p)

    walk((), 1.0)
    return found
