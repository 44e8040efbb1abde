"""Real responses of the bundled student, and the gradient of a loss on them by plain network calls and autograd."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hydrometer import objectives
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.objectives import Objective
from hydrometer.objectives.fused import Term
from hydrometer.training.config import TrainConfig
from hydrometer.training.gradient import Gathered, Imitation, StudentLoss, Terms, accumulate
from hydrometer.training.responses import Exercise, Writers, choose, set_exercises, write_responses
from hydrometer.training.setup import Workshop, build_workshop
from hydrometer.training.sharding import Holding, hold, whole_tensor

PROMPTS, GENERATIONS = 2, 3
SMALL: dict[str, Any] = {"prompts_per_step": PROMPTS, "num_generations": GENERATIONS, "max_response_tokens": 40}


TakeHold = Callable[[TransformersModel, Callable[[TransformersModel], nn.Module], Accelerator], Holding]


class Lesson(NamedTuple):
    """A workshop in float64 and one step's responses."""

    shop: Workshop
    exercises: list[Exercise]
    imitations: list[Imitation]

    @property
    def tokens(self) -> int:
        return sum(len(exercise.rollout.token_ids) for exercise in self.exercises)


def set_lesson(*, step: int = 0, double: bool = True, **options: Any) -> Lesson:
    """The first step's responses of a run with these options; networks in float64 afterwards."""
    shop = build_workshop(TrainConfig(**SMALL | options))
    writers = Writers(shop.student, shop.sampler, shop.task, shop.config.grading, shop.config.seed)
    questions = choose(shop.questions, step=step, count=PROMPTS, seed=shop.config.seed)
    places = range(PROMPTS)
    groups = write_responses(writers, places, questions, step=step, count=GENERATIONS, kind="base")
    demos = [[] for _ in questions]
    if shop.needs_demos:
        demos = write_responses(writers, places, questions, step=step, count=shop.config.demos, kind="demo")
    exercises, _ = set_exercises(
        shop.student,
        questions,
        groups,
        shop.settings.seats,
        shop.route,
        demos,
        length_gate=shop.config.length_gate,
    )
    imitations = [Imitation(exercise.prompt_ids, exercise.rollout.token_ids) for exercise in exercises[::2]]
    if double:
        for model in (shop.student, *(seat.model for seat in shop.settings.seats.values())):
            model.network.double()
    return Lesson(shop, exercises, imitations)


def terms_of(*specs: str, coefficients: Sequence[float] = ()) -> Terms:
    """Objectives sorted by what they learn from."""
    found: dict[str, list[Term]] = {"distil": [], "dr_grpo": [], "sft": []}
    for spec, coefficient in zip(specs, coefficients or [1.0] * len(specs), strict=True):
        objective = objectives.parse(spec)
        found.get(objective.kind, found["distil"]).append(Term(objective, coefficient))
    return Terms(*map(tuple, found.values()))


class Learnt(NamedTuple):
    """Gradients by parameter, and what was seen on the way."""

    gradients: dict[str, Tensor]
    gathered: Gathered


def take_gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    """The gradient of every parameter, which is cleared."""
    found = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            found[name] = torch.zeros_like(parameter) if parameter.grad is None else whole_tensor(parameter.grad)
            parameter.grad = None
    return found


def learn(lesson: Lesson, terms: Terms, *, weights: Any = None, take_hold: TakeHold = hold, **settings: Any) -> Learnt:
    """The loop's own way: every micro-batch forward and backward."""
    shop = lesson.shop
    changed = replace(shop.settings, terms=terms, **settings)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    held = take_hold(shop.student, lambda model: StudentLoss(model, changed), accelerator)
    gathered = accumulate(
        shop.student,
        held,
        changed,
        lesson.exercises,
        lesson.imitations,
        weights=weights,
        divide_by=float(lesson.tokens),
        divide_imitations_by=float(sum(len(one.token_ids) for one in lesson.imitations)),
    )
    return Learnt(take_gradients(held.network), gathered)


def response_logits(
    model: TransformersModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Logits that predict each response's tokens, `[token, vocab]`, one plain call of the network per row."""
    found = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = torch.tensor([[*prompt, *response]])
        logits = model.network(input_ids=ids).logits[0, len(prompt) - 1 : -1, : model.vocab_size]
        found.append(logits)
    return found


def pad(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def plain_gradients(
    lesson: Lesson,
    objective: Objective,
    *,
    use: Callable[[Tensor, Tensor | None, Tensor, Tensor, Tensor], Tensor],
    teacher: str = "expert",
) -> dict[str, Tensor]:
    """Autograd of `use(student_logits, teacher_logits, response_mask, tokens, advantages)`, padded to one batch."""
    exercises, temperature = lesson.exercises, lesson.shop.config.temperature
    responses = [exercise.rollout.token_ids for exercise in exercises]
    prompts = [exercise.prompt_ids for exercise in exercises]
    if objective.kind == "sft":
        responses = [one.token_ids for one in lesson.imitations]
        prompts = [one.prompt_ids for one in lesson.imitations]
        temperature = 1.0
    logits = pad(response_logits(lesson.shop.student, prompts, responses)) / temperature
    guide = None
    if objective.kind not in ("dr_grpo", "sft"):
        with torch.no_grad():
            shown = [exercise.lessons[teacher] for exercise in exercises]
            guide = pad(response_logits(lesson.shop.settings.seats[teacher].model, shown, responses)) / temperature
    mask = pad([torch.ones(len(response), dtype=torch.bool) for response in responses])
    tokens = pad([torch.tensor(response) for response in responses])
    advantages = torch.tensor([exercise.advantage for exercise in exercises], dtype=torch.float64)
    use(logits, guide, mask, tokens, advantages[: len(logits)]).backward()
    return take_gradients(lesson.shop.student.network)


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float) -> None:
    """Every parameter's, within `tolerance` of the largest entry of all."""
    assert found.keys() == expected.keys()
    size = max(float(gradient.abs().max()) for gradient in expected.values())
    assert size > 1e-4, "nothing to compare"
    for name, gradient in expected.items():
        gap = float((found[name] - gradient).abs().max())
        assert gap <= tolerance * size, f"{name}: {gap:.3g} of {size:.3g}"
