"""Scoring a response with student and teachers, a few rows of logits at a time, against holding all their logits.

    HYDROMETER_MODELS=FOLDER python -m benchmarks.scoring [--json] [--response 256] [--teachers 2] [--rounds 3]

Both sides score one response of random tokens under the student and under teachers that are the same weights with other
prompts, and give the same numbers (which is asserted). `held` makes the logits of the whole response by one forward
pass of each model, float32, and keeps them until the last position is done: what a scorer does that hands whole logits
on. `ours` is what a diagnosis runs. The analysis of the logits is the same code on both sides.

Memory is the highest resident size of a process above that of the loaded model after a short pass, in a process of its
own for each side and round; time is processor time of a second call there, one thread. Model: Qwen2.5-Coder-0.5B where
`HYDROMETER_MODELS` has it, and a made one of two layers with the same width and vocabulary (151,936 x 896), in which
the vocabulary is nearly all there is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.memory import peak_of, resident_bytes
from hydrometer.models import Warp
from hydrometer.models.causal import LogitsChunk
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.objectives import parse
from hydrometer.teachers import PathScores, TeacherView, score_paths

_FOLDER = "qwen2.5-coder-0.5b"
_OBJECTIVES = ("reverse_kl", "forward_kl", "topk_reverse_kl:k=16,form=stop_gradient")
_MADE = "made, 2 layers"


class Held(TransformersModel):
    """Hands on the logits of the whole response at once."""

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> Iterator[LogitsChunk]:
        """See `CausalModel`."""
        inputs = torch.tensor([[*prompt_ids, *response_ids[:-1]]])
        with torch.inference_mode():
            output = self.network(input_ids=inputs, use_cache=False, logits_to_keep=len(response_ids))
        yield LogitsChunk(0, output.logits[0, :, : self.vocab_size].float())


class Reading(NamedTuple):
    """One side in one process."""

    peak_mib: float
    """Above the loaded model."""
    seconds: float
    digest: list[float]
    """Sums that both sides have to agree on."""


def main() -> None:
    """Print the table, or one object of plain numbers for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--response", type=int, default=256)
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(_measure(options)._asdict()))
        return
    folder = Path(os.environ.get("HYDROMETER_MODELS", "")) / _FOLDER
    models = {_MADE: _MADE} | ({_FOLDER: str(folder)} if folder.is_dir() else {})
    found = {name: _compare(spec, options) for name, spec in models.items()}
    if options.json:
        print(json.dumps(found))
        return
    print("model                memory ratio  ours MiB  held MiB  time ratio  (range)      ours s  held s")
    for name, row in found.items():
        spread = f"{row['time_ratio_low']:.2f}-{row['time_ratio_high']:.2f}"
        print(
            f"{name:<20} {row['memory_ratio']:>12.3f} {row['ours_mib']:>9.0f} {row['held_mib']:>9.0f} "
            f"{row['time_ratio']:>11.2f}  {spread:<11} {row['ours_s']:>7.2f} {row['held_s']:>7.2f}"
        )


def _compare(spec: str, options: argparse.Namespace) -> dict[str, float]:
    """Both sides in turns."""
    rounds: list[tuple[Reading, Reading]] = []
    for number in range(options.rounds):
        order = ("ours", "held") if number % 2 == 0 else ("held", "ours")
        sides = {side: _spawn(side, spec, options) for side in order}
        np.testing.assert_allclose(sides["ours"].digest, sides["held"].digest, rtol=1e-4)
        rounds.append((sides["ours"], sides["held"]))
    ratios = [ours.seconds / held.seconds for ours, held in rounds]
    memory = [(ours.peak_mib, held.peak_mib) for ours, held in rounds]
    return {
        "memory_ratio": statistics.median(ours / held for ours, held in memory),
        "time_ratio": statistics.median(ratios),
        "time_ratio_low": min(ratios),
        "time_ratio_high": max(ratios),
        "ours_mib": statistics.median(ours for ours, _ in memory),
        "held_mib": statistics.median(held for _, held in memory),
        "ours_s": statistics.median(ours.seconds for ours, _ in rounds),
        "held_s": statistics.median(held.seconds for _, held in rounds),
    }


def _spawn(side: str, spec: str, options: argparse.Namespace) -> Reading:
    command = [sys.executable, "-m", "benchmarks.scoring", "--side", side, "--model", spec]
    command += ["--prompt", str(options.prompt), "--response", str(options.response)]
    command += ["--teachers", str(options.teachers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Reading(**json.loads(done.stdout))


def _measure(options: argparse.Namespace) -> Reading:
    torch.set_num_threads(1)
    model = _made() if options.model == _MADE else load_model(options.model)
    if options.side == "held":
        model.__class__ = Held
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(0, 1000, options.prompt + 8 * i).tolist()) for i in range(1 + options.teachers)]
    response = tuple(rng.integers(0, 1000, options.response).tolist())

    def score(length: int) -> PathScores:
        views = [TeacherView(str(i), model, prompt) for i, prompt in enumerate(prompts[1:])]
        objectives = [parse(text) for text in _OBJECTIVES]
        [found] = score_paths(model, prompts[0], views, [response[:length]], objectives, warp=Warp(), threshold=0.02)
        return found

    score(2)
    loaded = resident_bytes("VmRSS")
    peak = peak_of(lambda: score(options.response)) - loaded
    began = time.process_time()
    found = score(options.response)
    seconds = time.process_time() - began
    named = found.arrays()
    sums = [float(np.nansum(named[name])) for name in ("entropy", "sampled_logprob", "reverse_kl", "full_norm_squared")]
    return Reading(peak / 2**20, seconds, sums)


def _made() -> TransformersModel:
    """Random weights of the vocabulary and width of Qwen2.5-0.5B, and a tokenizer that is never asked."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape: dict[str, Any] = {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Qwen2ForCausalLM(Qwen2Config(**shape))
    return TransformersModel(_MADE, network, load_model("bundled:student").tokenizer, "made")


if __name__ == "__main__":
    main()
