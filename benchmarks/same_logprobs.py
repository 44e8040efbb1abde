"""Do two specs name the same model? Compares their log-probabilities on the same prompts and responses.

    python benchmarks/same_logprobs.py gguf:model.gguf FOLDER

Responses of 24 tokens are sampled from the first model, one for each of four prompts; `gap` is the difference of their
log-probabilities at every response position, in nats, over the tokens that the first model gives at least 1e-6.
"""

import argparse

import torch

from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler
from hydrometer.types import Message

_PROMPTS = (
    "Name a prime number above ten and say why it is one.",
    "Is a tomato a fruit? Answer in one sentence.",
    "What is 17 + 26? Show the steps.",
    "Write a line about rain.",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    print("dtype     positions  mean gap  max gap")
    for dtype in ("bfloat16", "float32"):
        first, second = (load_model(text, dtype=dtype) for text in options.models)
        gaps = torch.cat([_gaps(first, second, prompt, options.tokens) for prompt in _PROMPTS])
        print(f"{dtype:<9} {len(gaps):>9}  {gaps.mean():>8.1e}  {gaps.max():>7.1e}")


def _gaps(first: TransformersModel, second: TransformersModel, text: str, tokens: int) -> torch.Tensor:
    """The largest difference at each position."""
    prompt = first.render((Message("user", text),))
    assert prompt == second.render((Message("user", text),)), "the prompts differ"
    (drawn,) = build_sampler(first, SamplingSettings(tokens)).sample([SampleRequest(prompt, (), 7)])
    rows = [
        torch.cat([chunk.logits for chunk in model.score(prompt, drawn.token_ids)]).double().log_softmax(-1)
        for model in (first, second)
    ]
    likely = rows[0] > torch.tensor(1e-6).log()
    return ((rows[0] - rows[1]).abs() * likely).amax(-1)


if __name__ == "__main__":
    main()
