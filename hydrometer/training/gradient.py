"""The gradient of one optimiser step, a micro-batch at a time.

    L = sum over terms c_k (1 / n) sum over response tokens w_t l_k(t)        n: response tokens of the whole step

Rollouts that the student wrote carry the terms that compare it with a teacher (once per teacher that scores the
rollout, averaged over them) and the one that learns from outcomes; what it is to imitate carries `sft`. n is counted
over all micro-batches and processes before the first backward pass, so that neither changes the result.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrometer.dynamics import StudentStats, TokenStats, compute_student_stats, compute_token_stats
from hydrometer.models.rows import Rows, join_rows
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.models.tree_pass import fast_backward, predicting_states
from hydrometer.objectives.fused import Head, Term, fused_loss, observe_logprobs
from hydrometer.training.micro_batches import split_rows
from hydrometer.training.networks import read_head, recomputing
from hydrometer.training.responses import Exercise
from hydrometer.training.sharding import Holding
from hydrometer.training.teaching import Seat
from hydrometer.training.token_sheet import Joined, TokenSheet, token_keys
from hydrometer.training.weighing import SignColumns, Signs, compute_signs, split_signs

Observe = Callable[[Tensor, slice, Tensor, Tensor | None], None]
"""(places in the micro-batch, which of them, student's and teacher's log-probabilities)"""


class Imitation(NamedTuple):
    """A response that the student is to write itself."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """The summands of the loss, by what they learn from."""

    distil: tuple[Term, ...]
    outcome: tuple[Term, ...]
    imitate: tuple[Term, ...]

    @property
    def all(self) -> tuple[Term, ...]:
        """All of them."""
        return (*self.distil, *self.outcome, *self.imitate)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same in every step."""

    terms: Terms
    seats: Mapping[str, Seat]
    temperature: float
    metrics_k: int
    micro_batch: int | None
    recompute: bool = False
    """Compute activations again in the backward pass."""


class Taught(NamedTuple):
    """What one teacher has to say in a micro-batch."""

    states: Float[Tensor, "token teacher_width"]
    """Its hidden states."""
    head: Head
    places: Int[Tensor, " token"]
    """Which tokens of the micro-batch they are of."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One micro-batch of exercises, ready for the student."""

    rows: Rows
    keys: Int[Tensor, " token"]
    """Which token of which exercise of the step (see `token_keys`)."""
    row: Int[Tensor, " token"]
    """Which row of the micro-batch a token belongs to."""
    taught: Mapping[str, Taught]
    """By teacher name."""
    weights: Float[Tensor, " token"]
    """Of distillation: the token's weight over the number of teachers; 0 where gated."""
    advantages: Float[Tensor, " token"]


class StudentLoss(nn.Module):
    """The student's forward pass down to the loss in one module, so that a split student is whole where it is used."""

    def __init__(self, model: TransformersModel, settings: Settings):
        super().__init__()
        self.network = model.network
        self.vocab_size = model.vocab_size
        self.settings = settings

    def forward(self, lesson: Lesson | Rows, divide_by: float, observe: Observe) -> tuple[Tensor, Tensor]:
        """The loss of a micro-batch with its graph, and its terms apart (distil, outcome or imitate) without one."""
        head = read_head(self.network, self.vocab_size)
        terms, temperature = self.settings.terms, self.settings.temperature
        if isinstance(lesson, Rows):
            hidden = predicting_states(self.network, lesson)
            found = fused_loss(terms.imitate, hidden, head, tokens=lesson.targets, divide_by=divide_by)
            return found.loss, found.per_term
        hidden = predicting_states(self.network, lesson.rows)
        loss, per_term = hidden.sum() * 0.0, hidden.new_zeros(len(terms.distil) + len(terms.outcome)).float()
        if not (lesson.taught or terms.outcome):  # processes that split the head all have to have a gradient of it
            loss = loss + sum(part.sum() * 0.0 for part in (head.weight, head.bias) if part is not None)
        for states, teacher_head, places in lesson.taught.values():
            found = fused_loss(
                terms.distil,
                hidden[places],
                head,
                teacher_hidden=states,
                teacher_head=teacher_head,
                tokens=lesson.rows.targets[places],
                rollout_ids=lesson.row[places],
                loss_weights=lesson.weights[places],
                divide_by=divide_by,
                warp_temperature=temperature,
                observe=lambda rows, p, q, places=places: observe(places, rows, p, q),
            )
            loss = loss + found.loss
            per_term[: len(terms.distil)] += found.per_term
        if terms.outcome:
            everything = torch.arange(len(hidden), device=hidden.device)
            found = fused_loss(
                terms.outcome,
                hidden,
                head,
                tokens=lesson.rows.targets,
                advantages=lesson.advantages,
                divide_by=divide_by,
                warp_temperature=temperature,
                observe=None if lesson.taught else lambda rows, p, q: observe(everything, rows, p, q),
            )
            loss = loss + found.loss
            per_term[len(terms.distil) :] += found.per_term
        return loss, per_term


@torch.no_grad()
def teach(
    student: TransformersModel,
    settings: Settings,
    exercises: Sequence[Exercise],
    group: Sequence[int],
    weights: Sequence[np.ndarray] | None,
) -> Lesson:
    """Ask every teacher for its hidden states at the responses of a micro-batch that it scores."""
    device = student.device
    chosen = [exercises[i] for i in group]
    responses = [exercise.rollout.token_ids for exercise in chosen]
    rows = join_rows([exercise.prompt_ids for exercise in chosen], responses, device=device)
    lengths = torch.tensor([len(response) for response in responses], device=device)
    row = torch.arange(len(chosen), device=device).repeat_interleave(lengths)
    taught: dict[str, Taught] = {}
    for name, seat in settings.seats.items():
        mine = [i for i, exercise in enumerate(chosen) if name in exercise.lessons and settings.terms.distil]
        if not mine:
            continue
        prompts = [chosen[i].lessons[name] for i in mine]
        states = seat.predicting_states(prompts, [responses[i] for i in mine])
        with seat.as_teacher():
            head = read_head(seat.model.network, seat.model.vocab_size)
        taught[name] = Taught(states, head, torch.isin(row, torch.tensor(mine, device=device)).nonzero()[:, 0])
    spread = [
        _share(exercise) * (1.0 if weights is None else weights[i]) for i, exercise in zip(group, chosen, strict=True)
    ]
    each = torch.tensor([exercise.advantage for exercise in chosen], dtype=torch.float32, device=device)
    return Lesson(
        rows=rows,
        keys=token_keys(torch.tensor(group, device=device), lengths),
        row=row,
        taught=taught,
        weights=_per_token(spread, responses).to(device),
        advantages=each.repeat_interleave(lengths),
    )


def _share(exercise: Exercise) -> float:
    """Of one teacher in the loss of a response."""
    return 0.0 if exercise.is_gated or not exercise.lessons else 1.0 / len(exercise.lessons)


def _per_token(values: Sequence[np.ndarray | float], responses: Sequence[Sequence[int]]) -> Float[Tensor, " token"]:
    parts = [np.broadcast_to(value, len(response)) for value, response in zip(values, responses, strict=True)]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


@torch.no_grad()
def look_ahead(student: TransformersModel, settings: Settings, exercises: Sequence[Exercise]) -> list[Signs]:
    """What both models say of every token, before any weight is known; the first of several teachers speaks."""
    head = read_head(student.network, student.vocab_size)
    sheet = TokenSheet[SignColumns]()
    for group in _micro_batches(student, settings, exercises):
        lesson = teach(student, settings, exercises, group, None)
        hidden = predicting_states(student.network, lesson.rows)
        for states, teacher_head, places in lesson.taught.values():

            def observe(rows: slice, p: Tensor, q: Tensor | None, lesson=lesson, places=places) -> None:
                assert q is not None
                mine = places[rows]
                sheet.add(lesson.keys[mine], compute_signs(p, q, lesson.rows.targets[mine], k=settings.metrics_k))

            observe_logprobs(
                hidden[places],
                head,
                observe,
                teacher_hidden=states,
                teacher_head=teacher_head,
                warp_temperature=settings.temperature,
            )
    return split_signs(sheet.join(), [len(exercise.rollout.token_ids) for exercise in exercises])


def _micro_batches(student: TransformersModel, settings: Settings, exercises: Sequence[Exercise]) -> list[list[int]]:
    prompts = [max((exercise.prompt_ids, *exercise.lessons.values()), key=len) for exercise in exercises]
    lengths = [len(exercise.rollout.token_ids) for exercise in exercises]
    return split_rows(prompts, lengths, settings.micro_batch, student.network)


class Gathered(NamedTuple):
    """What the backward passes of a step have left behind."""

    losses: Float[Tensor, " term"]
    """Of each term before its coefficient, in the order distil, outcome, imitate; this process's part."""
    stats: Joined[TokenStats] | Joined[StudentStats] | None
    """Of the student's responses: by teacher and student, or by the student alone where no teacher is asked."""


def accumulate(
    student: TransformersModel,
    held: Holding,
    settings: Settings,
    exercises: Sequence[Exercise],
    imitations: Sequence[Imitation],
    *,
    weights: Sequence[np.ndarray] | None,
    divide_by: float,
    divide_imitations_by: float,
) -> Gathered:
    """Run every micro-batch forward and backward.

    Args:
        student: the model that is trained.
        held: how this process holds it.
        settings: of the run.
        exercises: the student's responses.
        imitations: what it is to imitate.
        weights: of each exercise's tokens; all 1 if None.
        divide_by: response tokens of all exercises of the step, over all processes.
        divide_imitations_by: the same of the imitations.
    """
    terms = settings.terms
    losses = torch.zeros(len(terms.all), device=student.device)
    taught, alone = TokenSheet[TokenStats](), TokenSheet[StudentStats]()
    count = len(terms.distil) + len(terms.outcome)
    is_asked = any(seat.model.network is student.network for seat in settings.seats.values())
    lessons = _passes(held, _micro_batches(student, settings, exercises) if count else [])
    given = imitations if terms.imitate else []
    prompts, lengths = [one.prompt_ids for one in given], [len(one.token_ids) for one in given]
    copies = _passes(held, split_rows(prompts, lengths, settings.micro_batch, student.network))
    held.expect(len(lessons) + len(copies))
    for group in lessons:
        with held.whole() if is_asked else nullcontext():
            lesson = teach(student, settings, exercises, group, weights) if group else idle_lesson(student.device)

        def observe(places: Tensor, rows: slice, p: Tensor, q: Tensor | None, lesson: Lesson = lesson) -> None:
            mine = places[rows]
            keys, tokens = lesson.keys[mine], lesson.rows.targets[mine]
            if q is None:
                alone.add(keys, compute_student_stats(p, tokens, k=settings.metrics_k))
            else:
                taught.add(keys, compute_token_stats(p, q, tokens, k=settings.metrics_k))

        losses[:count] += _study(held, settings, lesson, divide_by, observe if group else _overlook)
    for group in copies:
        chosen = [imitations[i] for i in group]
        if not chosen:
            _study(held, settings, idle_lesson(student.device), divide_imitations_by, _overlook)
            continue
        rows = join_rows([one.prompt_ids for one in chosen], [one.token_ids for one in chosen], device=student.device)
        losses[count:] += _study(held, settings, rows, divide_imitations_by, _overlook)
    return Gathered(losses, taught.join() or alone.join())


def _study(
    held: Holding, settings: Settings, lesson: Lesson | Rows, divide_by: float, observe: Observe
) -> Float[Tensor, " term"]:
    """One pass forward and backward; its terms."""
    with recomputing(held.network, settings.recompute):
        loss, per_term = held.loss(lesson, divide_by, observe)
        with fast_backward(held.network):
            held.backward(loss)
    return per_term


def _passes(held: Holding, groups: list[list[int]]) -> list[list[int]]:
    """The micro-batches, then an empty one for each that some other process has more, where it waits for this one."""
    return groups + [[]] * (held.most(len(groups)) - len(groups))


def idle_lesson(device: torch.device) -> Lesson:
    """One token that nothing is learnt from."""
    rows = join_rows([[0]], [[0]], device=device)
    nothing = torch.zeros(1, device=device)
    return Lesson(rows, keys=rows.targets, row=rows.targets, taught={}, weights=nothing, advantages=nothing)


def _overlook(places: Tensor, rows: slice, student: Tensor, teacher: Tensor | None) -> None:
    """Keep nothing of it."""
