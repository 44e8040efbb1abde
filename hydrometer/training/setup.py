"""From names to objects: the student and what of it is trained, teachers in their seats, objectives, questions."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from peft import PeftModel

from hydrometer.credentials import refuse_secrets
from hydrometer.errors import SpecError
from hydrometer.models import ScoreCache, Warp, check_token_maps, open_score_cache, parse_model_spec
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.objectives import parse
from hydrometer.objectives.fused import Term
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.runs.teachers import Teacher, cut_vocabulary, parse_teachers, refuse_aggregates, refuse_reserved
from hydrometer.sampling import Sampler, SamplingSettings, build_sampler
from hydrometer.tasks import grade_by, load_task
from hydrometer.teachers import PEER, SELF, SUMMARISED, TeacherSpec
from hydrometer.training.config import DEMO_TEACHER, TrainConfig, split_term
from hydrometer.training.gradient import Imitation, Settings, Terms
from hydrometer.training.imitations import read_imitations
from hydrometer.training.log import check_trackers
from hydrometer.training.networks import add_lora, check_head
from hydrometer.training.routing import build_route
from hydrometer.training.teaching import MovingAverage, Route, Seat, seat_self
from hydrometer.training.weighing import Weigher, build_weigher
from hydrometer.types import STUDENT, Question, Task

_METRICS_K = 16
_TOKENS_PER_PLACE = 96
"""A top-k that is a large part of the vocabulary says nothing: its tail is noise."""
_SMALL = 10_000_000
"""Parameters below which the default learning rate is that of the bundled family."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Everything a training run works with."""

    config: TrainConfig
    task: Task
    questions: tuple[Question, ...]
    """Of the train split, as student and teachers see them."""
    exam: tuple[Question, ...]
    """Questions that are answered before and after; empty where none are."""
    student: TransformersModel
    adapted: PeftModel | None
    """The student's network with its adapter, where one is trained."""
    sampler: Sampler
    settings: Settings
    route: Route
    weigher: Weigher
    average: MovingAverage | None
    imitations: tuple[Imitation, ...]
    """Given ones; empty where teachers write them."""
    prompts: PromptOptions
    learning_rate: float
    score_cache: ScoreCache | None = None
    """Of the teachers that stay as they are."""

    @property
    def needs_demos(self) -> bool:
        """Whether some teacher is shown rollouts of the student."""
        return any(seat.teacher.needs_demos for seat in self.settings.seats.values())


def build_workshop(config: TrainConfig, *, task: Task | None = None) -> Workshop:
    """Load what the config names; `task` given as an object takes the place of its spec.

    Raises:
        UserError: an unknown name, a spec that does not fit, a model that cannot be loaded or trained, different token
            maps, options that contradict one another, a split without questions.
    """
    refuse_secrets(config.model_dump(mode="json"), "config")
    terms = _parse_terms(config)
    specs = _parse_teachers(config, terms)
    weigher = build_weigher(config.weights)
    check_trackers(config.log_to)
    _refuse_contradictions(config, terms, weigher)
    parse_model_spec(config.student)
    task = task or load_task(config.task, config.verifier)
    if config.verifier is not None:
        task = grade_by(task, config.verifier)
    prompts = read_prompt_options(config, specs, templates=config.template)
    questions = _questions(task, prompts, terms)
    route = build_route(config.route, [spec.name for spec in specs], questions)
    cache = open_score_cache(config.score_cache)
    loader = Loader(config.model_copy(update={"device": _own_device(config.device)}), cache)
    student = loader.load_weights(config.student, prompts.prompt_format(STUDENT))
    others = {s.name: loader.load_weights(s.model, prompts.prompt_format(s.name)) for s in specs if s.model != SELF}
    loader.check_template_variables(prompts.kwargs)
    shared = check_token_maps(student, others)
    learner = _own(student, shared, is_shared=any(model.network is student.network for model in others.values()))
    for model in (learner, *others.values()):
        check_head(model)
    learner.network.requires_grad_(True)
    rate = config.learning_rate or _default_rate(learner, config)
    adapted = (
        add_lora(learner, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
        if config.lora_rank
        else None
    )
    seats, average = _seat(config, specs, learner, adapted, others, prompts, cache, shared)
    sampling = SamplingSettings(config.max_response_tokens, Warp(config.temperature, config.top_p))
    return Workshop(
        config=config,
        task=task,
        questions=questions,
        exam=_exam(config, task, prompts),
        student=learner,
        adapted=adapted,
        sampler=build_sampler(learner, sampling, batch_size=config.batch_size),
        settings=Settings(
            terms,
            seats,
            config.temperature,
            config.metrics_k or min(_METRICS_K, max(1, shared // _TOKENS_PER_PLACE)),
            config.micro_batch,
            config.gradient_checkpointing,
        ),
        route=route,
        weigher=weigher,
        average=average,
        imitations=() if config.sft_from is None else read_imitations(config.sft_from, learner, prompts),
        prompts=prompts,
        learning_rate=rate,
        score_cache=cache,
    )


def _own_device(device: str) -> str:
    """Of several processes on one machine each has an accelerator of its own."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return device if alone or device != "cuda" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def _parse_terms(config: TrainConfig) -> Terms:
    found: dict[str, list[Term]] = {"distil": [], "outcome": [], "imitate": []}
    for text in config.objective:
        coefficient, named = split_term(text)
        objective = parse(named)
        place = {"dr_grpo": "outcome", "sft": "imitate"}.get(objective.kind, "distil")
        if any(term.objective.name == objective.name for term in found[place]):
            raise SpecError(f"Objective '{text}' is given twice.")
        found[place].append(Term(objective, coefficient))
    if not any(found.values()):
        raise SpecError("Training needs at least one objective, e.g. --objective reverse_kl")
    return Terms(*(tuple(found[name]) for name in ("distil", "outcome", "imitate")))


def _parse_teachers(config: TrainConfig, terms: Terms) -> tuple[TeacherSpec, ...]:
    writes = bool(terms.imitate) and config.sft_from is None
    given = config.teacher
    if not given and (terms.distil or writes):
        if not config.student.startswith("bundled:"):
            raise SpecError(
                f"Student '{config.student}' needs a teacher, e.g. --teacher NAME=MODEL or --teacher self+answer"
            )
        given = (DEMO_TEACHER,)
    if given and not terms.distil and not writes:
        raise SpecError(
            f"--teacher {given[0]}: no objective of this run learns from a teacher "
            f"({', '.join(term.objective.name for term in terms.all)}). Leave it out, or add one that does."
        )
    specs = parse_teachers(given)
    refuse_aggregates(
        specs, "It is what a student comes to by training under the context itself, whose contents differ by question."
    )
    refuse_reserved([spec.name for spec in specs])
    for spec, text in zip(specs, given, strict=True):
        if spec.context.name == PEER or spec.context.name in SUMMARISED:
            raise SpecError(
                f"--teacher {text}: the context '{spec.context.name}' needs another model's texts for every question, "
                "which a training run does not write. Put them into the data as privileged_context, or choose "
                "correct_demo, correct_wrong_demo or solution."
            )
    return specs


def _refuse_contradictions(config: TrainConfig, terms: Terms, weigher: Weigher) -> None:
    if config.top_p < 1.0:
        raise SpecError(
            f"--top-p {config.top_p:g}: training compares whole distributions, and a student that samples from part of "
            "its own would be pushed by a direction of another one. Leave it at 1, and lower --temperature if needed."
        )
    if terms.outcome and config.num_generations < 2:
        raise SpecError(
            "dr_grpo compares the rollouts of one question with one another: give --num-generations 2 or more."
        )
    if config.weights != "all" and not terms.distil:
        raise SpecError(f"--weights {config.weights}: weights are of the tokens that are distilled on, and none are.")
    if config.sft_from is not None and not terms.imitate:
        raise SpecError(f"--sft-from {config.sft_from}: nothing imitates it; add --objective sft")


def _questions(task: Task, prompts: PromptOptions, terms: Terms) -> tuple[Question, ...]:
    found = tuple(prompts.show(question) for question in task.questions("train"))
    if not found:
        raise SpecError(f"{task.name} has no questions in its train split, and training takes its prompts from there.")
    without = [question.question_id for question in found if not question.answer.strip()]
    if without and terms.outcome:
        raise SpecError(
            f"dr_grpo learns from outcomes, and {len(without)} questions of {task.name} have no answer to judge by, "
            f"first '{without[0]}'."
        )
    return found


def _exam(config: TrainConfig, task: Task, prompts: PromptOptions) -> tuple[Question, ...]:
    if not config.eval_questions:
        return ()
    try:
        found = task.questions(config.eval_split)
    except SpecError as error:
        raise SpecError(f"{error}\nWithout evaluations: --eval-questions 0") from error
    return tuple(prompts.show(question) for question in found[: config.eval_questions])


def _own(student: TransformersModel, shared: int, *, is_shared: bool) -> TransformersModel:
    """The student to be trained, on the shared vocabulary; a teacher that is the same checkpoint keeps its weights."""
    own = student.with_cache(None)
    own.vocab_size = shared
    if is_shared:
        own.network = deepcopy(student.network)
    return own


def _default_rate(student: TransformersModel, config: TrainConfig) -> float:
    if config.lora_rank:
        return 1e-4
    return 1e-3 if student.parameters < _SMALL else 2e-6


def _seat(
    config: TrainConfig,
    specs: Sequence[TeacherSpec],
    learner: TransformersModel,
    adapted: PeftModel | None,
    others: Mapping[str, TransformersModel],
    prompts: PromptOptions,
    cache: ScoreCache | None,
    shared: int,
) -> tuple[dict[str, Seat], MovingAverage | None]:
    average = None
    own = None
    if any(spec.model == SELF for spec in specs):
        own = seat_self(learner, adapted, config.self_teacher, config.ema_decay, cache)
        average = own[2]
    seats: dict[str, Seat] = {}
    for spec in specs:
        frame = prompts.frame(spec.context.name)
        if spec.model == SELF:
            assert own is not None
            seats[spec.name] = Seat(Teacher(spec.name, own[0], spec.context, frame), own[0], own[1], is_self=True)
            continue
        model = cut_vocabulary(others[spec.name], shared)
        assert isinstance(model, TransformersModel)
        model.network.requires_grad_(False)
        seats[spec.name] = Seat(Teacher(spec.name, model, spec.context, frame), model)
    return seats, average
