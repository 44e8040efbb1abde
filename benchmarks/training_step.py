"""A whole optimiser step of `hydrometer train` against one of TRL's `DistillationTrainer`.

Both start from the same checkpoint as student and teacher, in float32, with full weights, AdamW, reverse KL over the
full vocabulary and the same prompts in the same chat template. Every response has exactly `tokens` tokens: TRL is told
`min_new_tokens`, ours knows no end of sequence. TRL's own training loop runs; ours makes a step after each of TRL's, so
that both see the same load. Seconds are of processor time, which other programs on the machine lengthen little; with
one thread they are about what a step takes on an idle machine.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import torch
from accelerate import Accelerator

from benchmarks.memory import peak_of
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.training import gradient, loop, responses
from hydrometer.training.config import TrainConfig
from hydrometer.training.loop import Trainer
from hydrometer.training.setup import Workshop, build_workshop
from hydrometer.types import Grades, Message, Question, Score

PROMPTS = (
    "What is the capital of France?",
    "A farmer has 17 sheep and buys 25 more. How many sheep does he have now? Explain each step.",
    "Write a short poem about the sea in winter.",
    "Name three uses of baking soda.",
    "Explain to a child why the sky is blue, and why sunsets are red.",
    "Translate into German: 'The train leaves at nine, but we should be there early.'",
    "What is 12 times 13?",
    "List the planets of the solar system in order, with one fact about each of them.",
)
PHASES = ("generate", "teacher", "student forward", "loss", "metrics", "backward", "optimiser", "rest")
Side = Literal["ours", "trl"]


class StepOptions(NamedTuple):
    """What is measured."""

    student: str
    prompts: int
    responses: int
    """To each prompt. TRL, which knows only rows, is given the prompt as often."""
    tokens: int
    rounds: int
    trl_checkpointing: bool
    """Whether TRL computes activations again in the backward pass, its default; ours does not."""


@dataclass(frozen=True)
class FixedPrompts:
    """A task whose questions are `PROMPTS`, and on which nothing is right or wrong."""

    count: int
    name: str = "fixed-prompts"

    def questions(self, split: Literal["train", "diagnose", "test"]) -> Sequence[Question]:
        """The same in every split."""
        return [
            Question(str(i), self.name, (Message("user", PROMPTS[i % len(PROMPTS)]),), answer="none")
            for i in range(self.count)
        ]

    def verify(self, question: Question, response: str) -> Grades:
        """Everything is wrong."""
        wrong = Score(0.0, correct=False, parsed=False)
        return Grades(wrong, wrong)


@dataclass
class Stopwatch:
    """Seconds by phase; what runs inside another phase does not count for the outer one."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    running: list[str] = field(default_factory=list)
    since: float = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside."""
        self._count()
        self.running.append(name)
        try:
            yield
        finally:
            self._count()
            self.running.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted."""

        def run(*positional: Any, **named: Any) -> Any:
            with self.phase(name):
                return function(*positional, **named)

        return run

    def _count(self) -> None:
        now = time.process_time()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now


class Ours:
    """Our loop, a step at a time."""

    def __init__(self, options: StepOptions):
        config = TrainConfig(
            student=options.student,
            teacher=(f"teacher={options.student}",),
            prompts_per_step=options.prompts,
            num_generations=options.responses,
            max_response_tokens=options.tokens,
            learning_rate=2e-6,
            dtype="float32",
            eval_questions=0,
        )
        self.shop: Workshop = build_workshop(config, task=FixedPrompts(options.prompts))
        assert isinstance(self.shop.student, TransformersModel)
        self.shop.student.eos_ids = frozenset()
        self.trainer = Trainer(self.shop, Accelerator(cpu=True, mixed_precision="no"))
        self.step_number = 0
        self.tokens = options.tokens * options.prompts * options.responses

    def step(self) -> dict[str, float]:
        """Seconds by phase."""
        watch = Stopwatch()
        trainer = self.trainer
        with contextlib.ExitStack() as patched, watch.phase("rest"):
            for module, name, phase in (
                (loop, "write_responses", "generate"),
                (responses, "read_rollouts", "rest"),
                (gradient, "teach", "teacher"),
                (gradient, "fused_loss", "loss"),
                (gradient, "compute_token_stats", "metrics"),
            ):
                patched.enter_context(patch.object(module, name, watch.timed(phase, getattr(module, name))))
            forward = self._student_forward(watch, gradient.predicting_states)
            patched.enter_context(patch.object(gradient, "predicting_states", forward))
            backward = watch.timed("backward", trainer.accelerator.backward)
            patched.enter_context(patch.object(trainer.accelerator, "backward", backward))
            step = watch.timed("optimiser", trainer.optimiser.step)
            patched.enter_context(patch.object(trainer.optimiser, "step", step))
            batch = trainer.prepare(self.step_number)
            studied = trainer.study(batch, self.step_number)
            trainer.update(studied, self.step_number)
            with watch.phase("metrics"):
                loop._measure(trainer, loop._gather(batch, studied.found))
        assert batch.generated_tokens == self.tokens, batch.generated_tokens
        self.step_number += 1
        return dict(watch.seconds)

    def _student_forward(self, watch: Stopwatch, function: Callable[..., Any]) -> Callable[..., Any]:
        """The teacher's pass goes through the same function."""

        def run(network: Any, *positional: Any) -> Any:
            with watch.phase("student forward" if network is self.shop.student.network else "teacher"):
                return function(network, *positional)

        return run


def run_trl(options: StepOptions, after_step: Callable[[float], None]) -> None:
    """TRL's own loop; `after_step` is told the seconds of each step once it is over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
        from trl.trainer.distillation_config import DistillationConfig
        from trl.trainer.distillation_trainer import DistillationTrainer

    class Clock(TrainerCallback):
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            after_step(time.process_time() - self.started)

    clock = Clock()
    models = [AutoModelForCausalLM.from_pretrained(options.student, dtype=torch.float32) for _ in range(2)]
    rows = [
        {"prompt": [{"role": m.role, "content": m.content} for m in question.prompt]}
        for question in FixedPrompts(options.prompts).questions("train")
        for _ in range(options.responses)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillationTrainer(
            *models,
            args=DistillationConfig(
                output_dir=folder,
                per_device_train_batch_size=options.prompts * options.responses,
                max_steps=options.rounds + 1,
                max_completion_length=options.tokens,
                generation_kwargs={"min_new_tokens": options.tokens},
                gradient_checkpointing=options.trl_checkpointing,
                learning_rate=2e-6,
                lr_scheduler_type="constant",
                beta=1.0,
                bf16=False,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(options.student, padding_side="left"),
            callbacks=[clock],
        )
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
        lengths = [line["completions/mean_length"] for line in trainer.state.log_history if "loss" in line]
    assert set(lengths) == {options.tokens}, lengths


def compare(options: StepOptions) -> None:
    """Print the table."""
    ours = Ours(options)
    theirs: list[float] = []
    mine: list[dict[str, float]] = []

    def after_step(seconds: float) -> None:
        theirs.append(seconds)
        mine.append(ours.step())
        total = sum(mine[-1].values())
        print(
            f"  TRL {seconds:6.2f} s, ours {total:6.2f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True
        )

    run_trl(options, after_step)
    del theirs[0], mine[0]  # first calls
    totals = [sum(phases.values()) for phases in mine]
    for phase in PHASES:
        print(f"{phase:16} {statistics.median(phases.get(phase, 0.0) for phases in mine):6.2f} s")
    ratio = statistics.median(own / other for own, other in zip(totals, theirs, strict=True))
    print(f"{'ours':16} {statistics.median(totals):6.2f} s")
    print(f"{'TRL':16} {statistics.median(theirs):6.2f} s")
    print(f"{'ours / TRL':16} {ratio:6.2f}   ({len(totals)} rounds, load {os.getloadavg()[0]:.1f})")
    peaks = {side: _peak_in_new_process(side) for side in ("ours", "trl")}
    print(f"peak memory      ours {peaks['ours'] / 2**20:.0f} MiB, TRL {peaks['trl'] / 2**20:.0f} MiB, ", end="")
    print(f"ratio {peaks['ours'] / peaks['trl']:.2f} (whole process, with both models and AdamW's moments)")


def peak_of_side(side: Side, options: StepOptions) -> int:
    """Highest resident size of this process in two steps of one side."""
    if side == "trl":
        return peak_of(lambda: run_trl(options._replace(rounds=1), lambda _: None))
    ours = Ours(options)
    return peak_of(lambda: [ours.step() for _ in range(2)])


def _peak_in_new_process(side: Side) -> int:
    command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], "--peak-of", side]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(found.splitlines()[-1])
