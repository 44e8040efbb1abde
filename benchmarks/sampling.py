"""The embedded sampler against `transformers.generate`, turn by turn. Only the ratios carry over to another machine.

    python benchmarks/sampling.py [--json] [--models bundled smollm2-135m] [--rounds 5] [--threads 1]

Two workloads: `branch` continues one response from 10 of its positions, 16 times each; `many` draws many rollouts of
one prompt, as many as a batch holds of a small model. `generate` may choose between two forms, one call per prefix with
`num_return_sequences` and one left-padded call for all rows: both are timed in a first round that does not count, and
the faster one plays. All sides draw from the full vocabulary in the same dtype and stop at the same tokens. The ratio
is the median over the rounds of generate's seconds over ours; with one thread, seconds are of processor time, which
other programs lengthen little.

`bound` is the time that the forward passes of the drawn tokens and of each context once take at the highest speed at
which this machine was seen to multiply matrices. `bundled` comes with the package; other models are folders of that
name under HYDROMETER_MODELS, and one that is not there is left out.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.sampling import SampleRequest, SamplingSettings, build_sampler
from hydrometer.types import Message

_POSITIONS = 10
_CONTINUATIONS = 16


class Subject(NamedTuple):
    """A model and what is asked of it; tokens are the most of a path, of a continuation and of a rollout."""

    spec: str
    prompt: str
    path_tokens: int
    branch_tokens: int
    rollouts: int
    rollout_tokens: int


class Workload(NamedTuple):
    """`copies` rows for each prefix, of `tokens` tokens or fewer."""

    prompt_ids: tuple[int, ...]
    prefixes: list[tuple[int, ...]]
    copies: int
    tokens: int


class Timing(NamedTuple):
    """One side of one round."""

    seconds: float
    tokens: int
    """Drawn, ends of sequence included."""


class Outcome(NamedTuple):
    """What a workload came to."""

    ratio: float
    form: str
    generate_seconds: float
    our_seconds: float
    bound_seconds: float
    tokens: int


Draw = Callable[[Workload, int], int]
"""(workload, seed) -> how many tokens were drawn"""


def main() -> None:
    """Print the table, or the numbers as JSON."""
    subjects = _subjects()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(subjects), default=list(subjects))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="numbers on standard output, the table on standard error")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = sys.stderr if options.json else sys.stdout
    peak = _matmul_flops()
    found: dict[str, dict[str, float]] = {}
    print(f"{peak / 1e9:.0f} GFLOP/s in float32, {options.threads} threads", file=table)
    print("model          workload  ratio  generate s  ours s  bound s  ours tok/s  form", file=table)
    for name in options.models:
        found[name] = {}
        model = load_model(subjects[name].spec)
        for kind, workload in _workloads(model, subjects[name]).items():
            outcome = compare(model, workload, options.rounds, peak)
            print(
                f"{name:13}  {kind:8}  {outcome.ratio:5.2f}  {outcome.generate_seconds:10.2f}  "
                f"{outcome.our_seconds:6.2f}  {outcome.bound_seconds:7.3f}  "
                f"{outcome.tokens / outcome.our_seconds:10.0f}  {outcome.form}",
                file=table,
                flush=True,
            )
            found[name] |= {
                f"{kind}_ratio": round(outcome.ratio, 3),
                f"{kind}_seconds": round(outcome.our_seconds, 4),
                f"{kind}_bound_seconds": round(outcome.bound_seconds, 4),
            }
    if options.json:
        print(json.dumps(found))


def _subjects() -> dict[str, Subject]:
    """The models that are there."""
    question = "Work out 70+6*2*3+9-5 from left to right, two digits a step."
    story = (
        "A farmer has 17 sheep and buys 25 more at the market. On the way home 3 of them run away, and in spring "
        "every second sheep has one lamb. How many animals does the farmer have now? Explain each step."
    )
    subjects = {"bundled": Subject("bundled:student", question, 96, 64, 256, 64)}
    folder = Path(os.environ.get("HYDROMETER_MODELS", "")) / "smollm2-135m"
    if folder.is_dir():
        subjects["smollm2-135m"] = Subject(str(folder), story, 64, 16, 64, 32)
    return subjects


def _workloads(model: TransformersModel, subject: Subject) -> dict[str, Workload]:
    """The path is the longest of 16 rollouts, and the positions are spread over it evenly."""
    prompt_ids = model.render((Message("user", subject.prompt),))
    requests = [SampleRequest(prompt_ids, (), seed) for seed in range(16)]
    drawn = build_sampler(model, SamplingSettings(subject.path_tokens)).sample(requests)
    path = max((continuation.token_ids for continuation in drawn), key=len)
    prefixes = [path[: round(len(path) * number / _POSITIONS)] for number in range(_POSITIONS)]
    return {
        "branch": Workload(prompt_ids, prefixes, _CONTINUATIONS, subject.branch_tokens),
        "many": Workload(prompt_ids, [()], subject.rollouts, subject.rollout_tokens),
    }


def compare(model: TransformersModel, workload: Workload, rounds: int, peak: float) -> Outcome:
    """Time both sides in turn."""
    ours = _ours(model, workload)
    forms = _generate_forms(model)
    tries = {name: _time(draw, workload, 0) for name, draw in forms.items()}
    form = min(tries, key=lambda name: tries[name].seconds)
    _time(ours, workload, 0)
    pairs = [(_time(forms[form], workload, seed), _time(ours, workload, seed)) for seed in range(1, rounds + 1)]
    tokens = statistics.median_low(drawn.tokens for _, drawn in pairs)
    return Outcome(
        statistics.median(theirs.seconds / drawn.seconds for theirs, drawn in pairs),
        form,
        statistics.median(theirs.seconds for theirs, _ in pairs),
        statistics.median(drawn.seconds for _, drawn in pairs),
        _flops(model, workload, tokens) / peak,
        tokens,
    )


def _time(draw: Draw, workload: Workload, seed: int) -> Timing:
    start = _clock()
    tokens = draw(workload, seed)
    return Timing(_clock() - start, tokens)


def _clock() -> float:
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _ours(model: TransformersModel, workload: Workload) -> Draw:
    sampler = build_sampler(model, SamplingSettings(max(map(len, workload.prefixes)) + workload.tokens))

    def draw(workload: Workload, seed: int) -> int:
        requests = [
            SampleRequest(workload.prompt_ids, prefix, seed << 32 | row << 16 | copy, most_tokens=workload.tokens)
            for row, prefix in enumerate(workload.prefixes)
            for copy in range(workload.copies)
        ]
        return sum(len(continuation.token_ids) for continuation in sampler.sample(requests))

    return draw


def _generate_forms(model: TransformersModel) -> dict[str, Draw]:
    def by_prefix(workload: Workload, seed: int) -> int:
        contexts = [(*workload.prompt_ids, *prefix) for prefix in workload.prefixes]
        return sum(_generate(model, [context], workload.copies, workload.tokens, seed) for context in contexts)

    def padded(workload: Workload, seed: int) -> int:
        contexts = [(*workload.prompt_ids, *prefix) for prefix in workload.prefixes for _ in range(workload.copies)]
        return _generate(model, contexts, 1, workload.tokens, seed)

    return {"one call per prefix": by_prefix, "one padded call": padded}


def _generate(model: TransformersModel, contexts: list[tuple[int, ...]], copies: int, tokens: int, seed: int) -> int:
    eos_ids = sorted(model.eos_ids)
    width = max(map(len, contexts))
    inputs = torch.tensor([[eos_ids[0]] * (width - len(context)) + list(context) for context in contexts])
    mask = torch.tensor([[0] * (width - len(context)) + [1] * len(context) for context in contexts])
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=copies,
        max_new_tokens=tokens,
        eos_token_id=eos_ids,
        pad_token_id=eos_ids[0],
    )
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        drawn = model.network.generate(inputs, attention_mask=mask, generation_config=settings)  # pyright: ignore[reportCallIssue]
    assert isinstance(drawn, Tensor)
    is_end = torch.isin(drawn[:, width:], torch.tensor(eos_ids))
    return int((is_end.int().cumsum(1) - is_end.int() == 0).sum())


def _flops(model: TransformersModel, workload: Workload, tokens: int) -> float:
    """Of the weight products: every drawn token passes through all of them, a context's only through the layers."""
    layers = [module for module in model.network.modules() if isinstance(module, nn.Linear)]
    all_weights = sum(layer.weight.numel() for layer in layers)
    head = model.output_size * model.network.config.get_text_config().hidden_size
    given = len(workload.prompt_ids) + max(map(len, workload.prefixes))
    return 2.0 * (tokens * all_weights + given * (all_weights - head))


def _matmul_flops() -> float:
    """Operations a second in the fastest of several products of float32 matrices, in either of torch's ways."""
    size = 1024
    matrix = torch.linspace(-1.0, 1.0, size * size).view(size, size)
    fastest = float("inf")
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        for _ in range(8):
            start = _clock()
            torch.mm(matrix, matrix)
            fastest = min(fastest, _clock() - start)
    torch.set_float32_matmul_precision("highest")
    return 2.0 * size**3 / fastest


if __name__ == "__main__":
    main()
