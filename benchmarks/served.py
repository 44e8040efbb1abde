"""A model behind vLLM against the same weights in this process: speed turn by turn, and log-probabilities in nats.

    python benchmarks/served.py FOLDER vllm:http://HOST:PORT/v1#FOLDER [--json] [--rollouts 32] [--tokens 32]

`sample` draws rollouts of one prompt, `score` asks for the whole vocabulary before every token of a response. Seconds
are medians over the rounds; on one machine the two sides share its cores, so that only ratios mean anything. Gaps are
mean absolute differences over the drawn tokens: `passes` between vLLM's report when it drew a token and its score
afterwards, `weights` between that score and the one in this process.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from hydrometer.models import CausalModel, Warp, drawn_logprobs, walk_logits
from hydrometer.models.prompting import PromptFormat
from hydrometer.models.transformers_model import load_model
from hydrometer.runs.loader import Loader
from hydrometer.runs.options import MachineOptions
from hydrometer.sampling import Continuation, SampleRequest, SamplingSettings, build_sampler
from hydrometer.types import Message

_QUESTION = "What is 17 + 26 - 9? Work it out step by step, then give the result."
_SCORED = 4
"""Responses whose whole rows are asked for."""


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("here")
    parser.add_argument("served")
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    here, served = load_model(options.here), Loader(MachineOptions()).load(options.served, PromptFormat())
    found = compare(here, served, options.rollouts, options.tokens, options.rounds)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for name, value in found.items():
        print(f"{name:28} {value:12.5g}")


def compare(here: CausalModel, served: CausalModel, rollouts: int, tokens: int, rounds: int) -> dict[str, float]:
    """All figures by name."""
    prompt = here.render((Message("user", _QUESTION),))
    requests = [SampleRequest(prompt, (), seed) for seed in range(rollouts)]
    samplers = [build_sampler(model, SamplingSettings(tokens)) for model in (here, served)]
    drawn = samplers[1].sample(requests)
    texts = [continuation.token_ids for continuation in drawn[:_SCORED]]
    n_scored = sum(map(len, texts))
    found: dict[str, float] = {}
    for name, model, sampler in zip(("here", "served"), (here, served), samplers, strict=True):
        took, counts = _timed(lambda sampler=sampler: _count(sampler.sample(requests)), rounds)
        found[f"{name}_sampled_tokens_per_s"] = counts / took
        took, _ = _timed(lambda model=model: _score(model, prompt, texts), rounds)
        found[f"{name}_scored_tokens_per_s"] = n_scored / took
    reported = np.concatenate([continuation.logprobs for continuation in drawn[:_SCORED]])
    scored = [
        np.concatenate([drawn_logprobs(walk_logits(model, prompt, text), text, Warp()) for text in texts])
        for model in (here, served)
    ]
    found["gap_passes_nats"] = float(np.abs(reported - scored[1]).mean())
    found["gap_passes_largest_nats"] = float(np.abs(reported - scored[1]).max())
    found["gap_weights_nats"] = float(np.abs(scored[0] - scored[1]).mean())
    found["compared_tokens"] = float(n_scored)
    return found


def _timed(work: Callable[[], int], rounds: int) -> tuple[float, int]:
    """Median seconds of a round, and what the last one counted."""
    work()
    seconds, count = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        count = work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), count


def _count(drawn: Sequence[Continuation]) -> int:
    return sum(len(continuation.token_ids) for continuation in drawn)


def _score(model: CausalModel, prompt: tuple[int, ...], texts: Sequence[tuple[int, ...]]) -> int:
    return sum(len(chunk.logits) for text in texts for chunk in model.score(prompt, text))


if __name__ == "__main__":
    main()
