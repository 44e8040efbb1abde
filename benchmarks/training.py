"""Time and memory of training against TRL on the same inputs. Only the ratios carry over to another machine.

    python -m benchmarks.training head [--tokens 1024] [--vocab 49152] [--width 576] [--dtype float32] [--threads 1]
    python -m benchmarks.training step [--student FOLDER] [--prompts 8] [--responses 1] [--tokens 64] [--rounds 3]

`head`: output layer and divergence, forward and backward, against the chunked loss of TRL's `DistillationTrainer`. Both
are timed turn by turn in one process (ratio = median over the rounds of ours / TRL's); peak memory is that of a process
of their own, over the resident size with the inputs loaded.
`step`: see `benchmarks.training_step`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import training_step
from benchmarks.memory import peak_of, resident_bytes
from hydrometer import objectives
from hydrometer.objectives import Head, Term, fused_loss

BETAS = (1.0, 0.5, 0.0)
"""TRL's: 1 reverse KL, 0.5 JSD, 0 forward KL."""


class HeadInputs(NamedTuple):
    """Hidden states `[token, width]` and output weights `[vocab, width]`; the teacher is the student, perturbed."""

    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor


class Result(NamedTuple):
    """Loss, and its gradients in the hidden states and in the output weights."""

    loss: Tensor
    hidden: Tensor
    weight: Tensor


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    head, step = parts.add_parser("head"), parts.add_parser("step")
    for part in (head, step):
        part.add_argument("--threads", type=int, default=1)
        part.add_argument("--rounds", type=int, default=3)
        part.add_argument("--matmul-precision", choices=("highest", "high", "medium"), default="highest")
        part.add_argument("--peak-of", choices=tuple(METHODS), help="print the peak memory of one side in bytes, only")
    head.add_argument("--tokens", type=int, default=1024)
    head.add_argument("--vocab", type=int, default=49152)
    head.add_argument("--width", type=int, default=576)
    head.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    head.add_argument("--beta", type=float, help="one beta instead of all")
    step.add_argument("--student", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="student and teacher")
    step.add_argument("--prompts", type=int, default=8)
    step.add_argument("--responses", type=int, default=1, help="to each prompt")
    step.add_argument("--tokens", type=int, default=64)
    step.add_argument("--trl-checkpointing", action="store_true", help="as TRL is set by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.matmul_precision)
    if options.part == "head":
        compare_heads(options)
        return
    given = training_step.StepOptions(
        options.student,
        options.prompts,
        options.responses,
        options.tokens,
        options.rounds,
        options.trl_checkpointing,
    )
    if options.peak_of:
        print(json.dumps(training_step.peak_of_side(options.peak_of, given)))
    else:
        training_step.compare(given)


def compare_heads(options: argparse.Namespace) -> None:
    """Print the table of `head`."""
    inputs = head_inputs(options.tokens, options.vocab, options.width, getattr(torch, options.dtype))
    if options.peak_of:
        print(json.dumps(peak_bytes(METHODS[options.peak_of], inputs, options.beta)))
        return
    print("beta   ours s  TRL s  ratio   ours MiB  TRL MiB  ratio   loss gap  gradient gap (h, W), relative")
    for beta in BETAS if options.beta is None else (options.beta,):
        ours, theirs, ratio = timed_in_turns(inputs, beta, options.rounds)
        gaps = [relative_gap(x, y) for x, y in zip(ours_once(inputs, beta), trl_once(inputs, beta), strict=True)]
        peaks = [peak_in_new_process(name, beta) / 2**20 for name in METHODS]
        print(
            f"{beta:4.1f}  {ours:7.2f}  {theirs:5.2f}  {ratio:5.2f}   {peaks[0]:8.0f}  {peaks[1]:7.0f}  "
            f"{peaks[0] / peaks[1]:5.2f}   {gaps[0]:8.1e}  {gaps[1]:8.1e}, {gaps[2]:8.1e}",
            flush=True,
        )


def head_inputs(tokens: int, vocab: int, width: int, dtype: torch.dtype) -> HeadInputs:
    """Seeded; logits of standard deviation about 2.4, of which the teacher's differ by a few tenths."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, scale: float) -> Tensor:
        return torch.randn(rows, width, generator=generator).mul_(scale)

    hidden, weight = normal(tokens, 1.0), normal(vocab, 0.1)
    teacher_hidden = (hidden + normal(tokens, 0.2)).to(dtype)
    teacher_weight = (weight + normal(vocab, 0.02)).to(dtype)
    return HeadInputs(
        hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), teacher_hidden, teacher_weight
    )


def ours_once(inputs: HeadInputs, beta: float) -> Result:
    """Our loss and its gradients."""
    loss = fused_loss(
        [Term(objectives.make("jsd", beta=beta))],
        inputs.hidden,
        Head(inputs.weight),
        teacher_hidden=inputs.teacher_hidden,
        teacher_head=Head(inputs.teacher_weight),
    ).loss
    return Result(loss.detach(), *torch.autograd.grad(loss, (inputs.hidden, inputs.weight)))


def trl_once(inputs: HeadInputs, beta: float) -> Result:
    """TRL's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.trainer.distillation_trainer import _chunked_divergence_loss
    loss, _, _ = _chunked_divergence_loss(
        inputs.hidden[None],
        inputs.teacher_hidden[None],
        inputs.weight,
        inputs.teacher_weight,
        torch.ones(1, len(inputs.hidden)),
        beta,
    )
    return Result(loss.detach(), *torch.autograd.grad(loss, (inputs.hidden, inputs.weight)))


METHODS: dict[str, Callable[[HeadInputs, float], Result]] = {"ours": ours_once, "trl": trl_once}


def timed_in_turns(inputs: HeadInputs, beta: float, rounds: int) -> tuple[float, float, float]:
    """Median seconds of ours and of TRL's, and the median ratio of a round (after one that does not count)."""
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for round_number in range(rounds + 1):
        for name, method in METHODS.items():
            start = time.perf_counter()
            method(inputs, beta)
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    ratios = [ours / theirs for ours, theirs in zip(seconds["ours"], seconds["trl"], strict=True)]
    return statistics.median(seconds["ours"]), statistics.median(seconds["trl"]), statistics.median(ratios)


def peak_bytes(method: Callable[[HeadInputs, float], Result], inputs: HeadInputs, beta: float) -> int:
    """Peak resident memory of one call over what was resident before it (Linux)."""
    few = head_inputs(2, 8, 4, inputs.hidden.dtype)
    method(few, beta)  # imports
    before = resident_bytes("VmRSS")
    return peak_of(lambda: method(inputs, beta)) - before


def peak_in_new_process(name: str, beta: float) -> int:
    """This command again, for one method only."""
    command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], "--peak-of", name, "--beta", str(beta)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def relative_gap(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


if __name__ == "__main__":
    main()
