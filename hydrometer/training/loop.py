"""The training loop, read from top to bottom.

One step:

    choose questions -> write responses -> set exercises (teachers, prompts, advantages) -> weigh tokens
    -> gradient -> optimiser -> metrics and alarms -> evaluation -> checkpoint

Processes share the questions of a step; gradients are summed over them, and every one then makes the same update.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float

from hydrometer.dynamics import StudentStats, TokenStats, aggregate, build_bin_starts, check_alarms
from hydrometer.errors import TrainingError
from hydrometer.models import Warp
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.runs.interrupts import uninterrupted
from hydrometer.runs.memory import explain_memory
from hydrometer.runs.progress import Progress
from hydrometer.sampling import Sampler, SamplingSettings, build_sampler
from hydrometer.training.gradient import Gathered, Imitation, StudentLoss, accumulate, look_ahead
from hydrometer.training.imitations import write_imitations
from hydrometer.training.keeping import Keeper
from hydrometer.training.optimiser import AdamSettings, Optimiser, Optimising, rate_at
from hydrometer.training.responses import Exercise, Writers, choose, set_exercises, write_responses
from hydrometer.training.setup import Workshop
from hydrometer.training.sharding import Holding, hold
from hydrometer.training.state import TrainState
from hydrometer.training.zero import ZeroStudent, read_zero
from hydrometer.types import Question, Rollout

_LOWER = "Lower --micro-batch (rollouts in one pass) or --batch-size (rollouts sampled at a time), then --resume."


class Batch(NamedTuple):
    """One process's part of a step."""

    exercises: list[Exercise]
    imitations: list[Imitation]
    generated_tokens: int
    rollouts: int
    scored_tokens: int
    """By teachers."""


class Studied(NamedTuple):
    """What a gradient was made of."""

    found: Gathered
    losses: Float[torch.Tensor, " term"]
    """Of each term before its coefficient, over all processes."""
    told: dict[str, float | None]
    """Metrics of the weights."""


class Trainer:
    """Owns what changes from step to step: weights, moments, the moving average."""

    def __init__(self, shop: Workshop, accelerator: Accelerator):
        config = shop.config
        self.shop = shop
        self.accelerator = accelerator
        self.held, self.optimiser = take_hold(shop, accelerator)
        self.writers = Writers(shop.student, shop.sampler, shop.task, config.grading, config.seed)
        self.teacher_samplers: dict[str, Sampler] = {}
        if shop.settings.terms.imitate and not shop.imitations:
            settings = SamplingSettings(config.max_response_tokens, Warp(config.temperature))
            self.teacher_samplers = {
                name: build_sampler(seat.model, settings, batch_size=config.batch_size)
                for name, seat in shop.settings.seats.items()
            }

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What a checkpoint has to hold, each whole; all processes go through all of them."""
        average = self.shop.average
        for name, tensor in chain(self.optimiser.tensors(), () if average is None else average.tensors().items()):
            yield name, tensor.cpu()  # one at a time: an accelerator need not hold them all

    @torch.no_grad()
    def restore(self, saved: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave."""
        self.optimiser.restore(saved)
        if self.shop.average is not None:
            for name, tensor in self.shop.average.tensors().items():
                tensor.copy_(saved[name])

    def prepare(self, step: int) -> Batch:
        """Write this process's responses of a step and set their exercises."""
        shop, config = self.shop, self.shop.config
        chosen = choose(shop.questions, step=step, count=config.prompts_per_step, seed=config.seed)
        places = self._share(range(len(chosen)))
        mine = [chosen[place] for place in places]
        terms = shop.settings.terms
        groups: list[list[Rollout]] = [[] for _ in mine]
        demos: list[list[Rollout]] = [[] for _ in mine]
        if terms.distil or terms.outcome:
            groups = write_responses(self.writers, places, mine, step=step, count=config.num_generations, kind="base")
            if shop.needs_demos:
                demos = write_responses(self.writers, places, mine, step=step, count=config.demos, kind="demo")
        exercises, _ = set_exercises(
            shop.student, mine, groups, shop.settings.seats, shop.route, demos, length_gate=config.length_gate
        )
        written = [rollout for part in (*groups, *demos) for rollout in part]
        imitations = self._imitations(step, places, mine)
        tokens = sum(len(rollout.token_ids) for rollout in written)
        if self.teacher_samplers:
            tokens += sum(len(one.token_ids) for one in imitations)
        return Batch(exercises, imitations, tokens, len(written), self._scored_tokens(exercises))

    def _scored_tokens(self, exercises: Sequence[Exercise]) -> int:
        shop = self.shop
        passes = 2 if shop.config.weights != "all" and shop.weigher.needs_signs else 1  # signs are read beforehand
        taught = sum(len(one.rollout.token_ids) * len(one.lessons) for one in exercises)
        return passes * taught if shop.settings.terms.distil else 0

    def _share(self, items: Sequence[Any]) -> list[Any]:
        """What falls to this process."""
        return list(items[self.accelerator.process_index :: self.accelerator.num_processes])

    def _imitations(self, step: int, places: Sequence[int], mine: Sequence[Question]) -> list[Imitation]:
        shop = self.shop
        if not shop.settings.terms.imitate:
            return []
        if not shop.imitations:
            seats = list(shop.settings.seats.values())
            return write_imitations(
                seats, self.teacher_samplers, shop.student, places, mine, step=step, seed=shop.config.seed
            )
        count, seed = shop.config.prompts_per_step, shop.config.seed
        return self._share(choose(shop.imitations, step=step, count=count, seed=seed))

    def study(self, batch: Batch, step: int) -> Studied:
        """The gradient of a step, over all processes; no weight is changed."""
        shop = self.shop
        weights, told = self._weigh(batch.exercises)
        counts = torch.tensor(
            [
                sum(len(exercise.rollout.token_ids) for exercise in batch.exercises),
                sum(len(one.token_ids) for one in batch.imitations),
            ],
            dtype=torch.float64,
            device=shop.student.device,
        )
        own, given = self._sum(counts).tolist()
        found = accumulate(
            shop.student,
            self.held,
            shop.settings,
            batch.exercises,
            batch.imitations,
            weights=weights,
            divide_by=max(own, 1.0),
            divide_imitations_by=max(given, 1.0),
        )
        self.held.share_gradients()
        return Studied(found, self._sum(found.losses), told)

    def update(self, studied: Studied, step: int) -> dict[str, float | None]:
        """The step itself; returns its metrics.

        Raises:
            TrainingError: the gradient is not finite; no weight was changed.
        """
        shop, config, losses = self.shop, self.shop.config, studied.losses
        rate = rate_at(
            step,
            steps=config.steps,
            peak=shop.learning_rate,
            warmup_ratio=config.warmup_ratio,
            schedule=config.lr_scheduler_type,
        )
        try:
            norm = self.optimiser.step(rate)
        except FloatingPointError as error:
            raise TrainingError(
                f"Step {step + 1}: {error} and the loss {float(losses.sum()):.4g}, so no step can be made. The weights "
                "before it are kept in the run folder, as model/ or adapter/.\n"
                "Start again in a new folder with a lower --learning-rate or --max-grad-norm, or with --dtype float32."
            ) from error
        if shop.average is not None:
            with self.held.whole():
                shop.average.follow()
        terms = shop.settings.terms.all
        told = studied.told | {
            f"loss_{term.objective.name}": float(loss) for term, loss in zip(terms, losses, strict=True)
        }
        told["loss"] = sum(term.coefficient * float(loss) for term, loss in zip(terms, losses, strict=True))
        return told | {"gradient_norm": float(norm), "learning_rate": rate}

    def _weigh(self, exercises: Sequence[Exercise]) -> tuple[list[np.ndarray] | None, dict[str, float | None]]:
        shop = self.shop
        if shop.config.weights == "all":
            return None, {}
        signs = None
        if shop.weigher.needs_signs:
            with self.held.whole():
                signs = look_ahead(shop.student, shop.settings, exercises)
        everyone = gather_object([([e.rollout for e in exercises], signs)])
        rollouts = [rollout for part, _ in everyone for rollout in part]
        joined = None if signs is None else [sign for _, part in everyone for sign in part]
        weighed = shop.weigher.weigh(rollouts, joined)
        first = sum(len(part) for part, _ in everyone[: self.accelerator.process_index])
        return weighed.weights[first : first + len(exercises)], weighed.metrics

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(values, "sum") if self.accelerator.num_processes > 1 else values  # pyright: ignore[reportReturnType]


def take_hold(shop: Workshop, accelerator: Accelerator) -> tuple[Holding, Optimising]:
    """Of the student, as `accelerate launch` was told to, and of what makes its steps.

    Raises:
        SpecError: see `read_split` and `read_zero`.
    """
    config = shop.config
    adam = AdamSettings(config.adam_beta2, config.weight_decay, config.max_grad_norm)

    def build_loss(model: TransformersModel) -> StudentLoss:
        return StudentLoss(model, shop.settings)

    zero = read_zero(config.max_grad_norm)
    if zero is not None and accelerator.num_processes > 1:
        both = ZeroStudent(shop.student, build_loss, accelerator, zero, adam)
        return both, both
    held = hold(shop.student, build_loss, accelerator)
    return held, Optimiser(held.network.parameters(), adam)


def run_steps(trainer: Trainer, state: TrainState, keeper: Keeper, progress: Progress) -> None:
    """Train from `state` to the last step.

    Raises:
        TrainingError: see `Trainer.update`; an alarm where alarms are to stop the run.
    """
    config = trainer.shop.config
    progress.stage("training steps", config.steps)
    progress.advance(state.step)
    if state.step == 0:
        with trainer.held.whole():
            keeper.evaluate(0)
    while state.step < config.steps:
        started = time.monotonic()
        found = _cached_tokens(trainer)
        with explain_memory(_LOWER):
            with trainer.held.whole():
                batch = trainer.prepare(state.step)
            studied = trainer.study(batch, state.step)
        gathered = _gather(batch, studied.found, cached_tokens=_cached_tokens(trainer) - found)
        metrics = _measure(trainer, gathered)
        with uninterrupted(), explain_memory(_LOWER):
            state.is_whole = False
            try:
                told = trainer.update(studied, state.step)
            except TrainingError:
                state.is_whole = True
                raise
            state.step += 1
            state.totals.rollouts += sum(part.rollouts for part in gathered)
            state.totals.generated_tokens += sum(part.generated_tokens for part in gathered)
            state.totals.scored_tokens += sum(part.scored_tokens for part in gathered)
            state.totals.cached_tokens += sum(part.cached_tokens for part in gathered)
            state.totals.wall_s += time.monotonic() - started
            keeper.log(state, metrics | told)
            state.is_whole = True
        progress.advance(1)
        progress.spent(state.totals.rollouts, state.totals.generated_tokens)
        stopped = _heed_alarms(keeper, config.alarms, progress)
        is_last = stopped or state.step == config.steps
        if is_last or (config.eval_steps and state.step % config.eval_steps == 0):
            with trainer.held.whole():
                keeper.evaluate(state.step)
        if trainer.held.most(int(is_last or keeper.is_due(state))):
            keeper.keep(state, trainer.tensors())
        if stopped:
            return


class Part(NamedTuple):
    """What one process tells the others of a step."""

    rollouts_seen: list[Rollout]
    stats: TokenStats | StudentStats | None
    all_rollouts: list[Rollout]
    generated_tokens: int
    rollouts: int
    scored_tokens: int
    cached_tokens: int


def _cached_tokens(trainer: Trainer) -> int:
    cache = trainer.shop.score_cache
    return 0 if cache is None else cache.found_tokens


def _gather(batch: Batch, found: Gathered, *, cached_tokens: int = 0) -> list[Part]:
    seen: list[Rollout] = []
    stats = None
    if found.stats is not None:
        seen = [batch.exercises[place].rollout for place in found.stats.exercise.unique().tolist()]
        stats = type(found.stats.values)(*(column.cpu() for column in found.stats.values))
    everyone = [exercise.rollout for exercise in batch.exercises]
    spent = (batch.generated_tokens, batch.rollouts, batch.scored_tokens, cached_tokens)
    return gather_object([Part(seen, stats, everyone, *spent)])


def _measure(trainer: Trainer, gathered: Sequence[Part]) -> dict[str, float | None]:
    parts = [part.stats for part in gathered if part.stats is not None]
    if not parts:
        return {}
    stats: Any = type(parts[0])(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    seen = [rollout for part in gathered for rollout in part.rollouts_seen]
    everyone = [rollout for part in gathered for rollout in part.all_rollouts]
    metrics = aggregate(stats, seen, bin_starts=build_bin_starts(trainer.shop.config.max_response_tokens))
    if len(everyone) > len(seen):  # some had no teacher; what is true of responses alone is said of all
        metrics["accuracy"] = float(np.mean([rollout.correct for rollout in everyone]))
    return metrics | {"taught_share": len(seen) / len(everyone)}


def _heed_alarms(keeper: Keeper, mode: str, progress: Progress) -> bool:
    """Tell new alarms; whether the run has to stop."""
    if mode == "off":
        return False
    alarms = check_alarms(keeper.history)
    for alarm in alarms:
        keeper.alarm(alarm)
        progress.note(
            f"step {alarm.step}: {alarm.name} ({alarm.value:.3g}, threshold {alarm.threshold:.3g}). "
            f"{alarm.mechanism} {alarm.cure}"
        )
    return bool(alarms) and mode == "stop"
