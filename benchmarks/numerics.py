"""Speed and self-agreement of a model under each dtype and number of threads: what the defaults were chosen by.

    python benchmarks/numerics.py MODEL [--rollouts 32] [--tokens 32] [--repeats 3]

For each setting it samples the same rollouts of one prompt and scores them again. Settings are interleaved and medians
are printed. `gap` is |log p of the sampling pass - log p of the scoring pass| per token, in nats.
"""

import argparse
import statistics
import time
from itertools import product

import numpy as np
import torch

from hydrometer.models import warp_logprobs
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler, rollout_seed
from hydrometer.types import Message

_PROMPT = "A train leaves at nine and arrives at noon. How long does the journey take? Explain in one short sentence."


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    loaded = {dtype: load_model(options.model, dtype=dtype) for dtype in ("float32", "bfloat16")}
    settings = list(product(loaded, (1, 2)))
    found: dict[tuple[str, int], list[tuple[float, float, float, float]]] = {setting: [] for setting in settings}
    for _ in range(options.repeats):
        for dtype, threads in settings:
            torch.set_num_threads(threads)
            found[dtype, threads].append(_measure(loaded[dtype], options.rollouts, options.tokens))
    print("dtype     threads  sampled tok/s  scored tok/s  mean gap   max gap")
    for (dtype, threads), rows in found.items():
        sampled, scored, mean, largest = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{dtype:9} {threads:7}  {sampled:13.0f}  {scored:12.0f}  {mean:8.1e}  {largest:8.1e}")


def _measure(model: TransformersModel, rollouts: int, tokens: int) -> tuple[float, float, float, float]:
    """Sampled and scored tokens per second, mean and largest gap in nats."""
    settings = SamplingSettings(tokens)
    prompt = model.render((Message("user", _PROMPT),))
    requests = [SampleRequest(prompt, (), rollout_seed(0, "numerics", number)) for number in range(rollouts)]
    start = time.perf_counter()
    drawn = build_sampler(model, settings).sample(requests)
    sample_s = time.perf_counter() - start
    gaps = []
    start = time.perf_counter()
    for continuation in drawn[:8]:
        logprobs = torch.cat(
            [warp_logprobs(chunk.logits, settings.warp) for chunk in model.score(prompt, continuation.token_ids)]
        )
        own = logprobs[torch.arange(len(logprobs)), torch.tensor(continuation.token_ids)].numpy()
        gaps.append(np.abs(own - np.asarray(continuation.logprobs)))
    score_s = time.perf_counter() - start
    n_sampled = sum(len(continuation.token_ids) for continuation in drawn)
    joined = np.concatenate(gaps)
    return n_sampled / sample_s, len(joined) / score_s, float(joined.mean()), float(joined.max())


if __name__ == "__main__":
    main()
