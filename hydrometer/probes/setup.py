"""From names to objects: the student, its teachers, the questions. Errors of a config surface here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hydrometer.credentials import refuse_secrets
from hydrometer.errors import SpecError
from hydrometer.models import (
    GREEDY,
    CausalModel,
    ScoreCache,
    Warp,
    check_token_maps,
    open_score_cache,
    parse_model_spec,
)
from hydrometer.probes.config import CONFIGS, ContinuationConfig, Kind, PrefixConfig, ProbeConfig, parse_depth
from hydrometer.runs.drawing import Grader, Writer
from hydrometer.runs.engines import require_scorers
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.runs.teachers import Teacher, cut_vocabulary, parse_teachers, refuse_aggregates, refuse_reserved
from hydrometer.sampling import SamplingSettings, build_sampler
from hydrometer.tasks import grade_by, load_task
from hydrometer.teachers import PEER, SELF, SUMMARISED, ContextSpec, TeacherSpec
from hydrometer.types import STUDENT, Question, Task


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a probe works with."""

    kind: Kind
    config: ProbeConfig
    task: Task
    questions: tuple[Question, ...]
    """As student and teachers see them."""
    available: int
    """Questions of the split."""
    student: Writer
    teachers: tuple[Teacher, ...]
    writers: Mapping[str, Writer]
    """Of the teachers, by name."""
    prompts: PromptOptions
    score_cache: ScoreCache | None = None
    """Of the models that were loaded from specs."""

    @property
    def grader(self) -> Grader:
        """Who says what is right."""
        return Grader(self.task, self.config.grading)

    @property
    def warp(self) -> Warp:
        """Which distribution the student's tokens are scored under."""
        return Warp(self.config.temperature, self.config.top_p)

    @property
    def models(self) -> dict[str, CausalModel]:
        """By their part in the run."""
        return {STUDENT: self.student.model, **{teacher.name: teacher.model for teacher in self.teachers}}


def build_bench(
    config: ProbeConfig,
    *,
    student: CausalModel | None = None,
    teachers: Mapping[str, CausalModel] | None = None,
    task: Task | None = None,
) -> Bench:
    """Load what the config names; `student`, `teachers` and `task` given as objects take the place of their specs.

    Raises:
        UserError: an unknown name, a spec that does not fit, a model that cannot be loaded, different token maps, a
            split without questions.
    """
    refuse_secrets(config.model_dump(mode="json"), "config")
    if isinstance(config, ContinuationConfig):
        _check_depths(config.depth)
    if student is None:
        parse_model_spec(config.student)  # misspelt names are told before anything is loaded
    specs = () if teachers is not None else _parse_specs(config)
    refuse_reserved([spec.name for spec in specs] + list(teachers or ()))
    if task is None:
        task = load_task(config.task, config.verifier)
    elif config.verifier is not None:
        task = grade_by(task, config.verifier)
    prompts = read_prompt_options(config, specs, templates=config.template)
    if prompts.changes_formats and (student is not None or teachers is not None):
        raise SpecError("Options of prompts are for models given as specs; a model object writes prompts its own way.")
    everything = task.questions(config.split)
    if not everything:
        raise SpecError(f"{task.name} has no questions in the split '{config.split}'. Choose another with --split.")
    cache = open_score_cache(config.score_cache)
    loader = Loader(config, cache)
    student = student or loader.load(config.student, prompts.prompt_format(STUDENT))
    seated = _seat_objects(teachers) if teachers is not None else _seat(specs, prompts, student, loader)
    if not seated:
        raise SpecError("A probe needs at least one teacher, e.g. --teacher expert=bundled:expert")
    loader.check_template_variables(prompts.kwargs)
    require_scorers([student, *(teacher.model for teacher in seated)])
    shared = check_token_maps(student, {teacher.name: teacher.model for teacher in seated})
    cut = {id(model): cut_vocabulary(model, shared) for model in (student, *(one.model for one in seated))}
    ready = tuple(replace(teacher, model=cut[id(teacher.model)]) for teacher in seated)
    return Bench(
        kind=next(kind for kind, made in CONFIGS.items() if type(config) is made),
        config=config,
        task=task,
        questions=tuple(prompts.show(question) for question in everything[: config.questions]),
        available=len(everything),
        student=_writer(STUDENT, cut[id(student)], config),
        teachers=ready,
        writers={teacher.name: _writer(teacher.name, teacher.model, config) for teacher in ready},
        prompts=prompts,
        score_cache=cache,
    )


def _check_depths(depths: Sequence[str]) -> None:
    for number, depth in enumerate(depths):
        parse_depth(depth)
        if depth in depths[:number]:
            raise SpecError(f"--depth {depth} is given twice.")
    if not depths:
        raise SpecError("This probe needs at least one depth, e.g. --depth 50%")


def _parse_specs(config: ProbeConfig) -> tuple[TeacherSpec, ...]:
    specs = parse_teachers(config.teacher)
    refuse_aggregates(specs, "Name the context itself; `hydrometer probe aggregation` compares what it says.")
    for spec, text in zip(specs, config.teacher, strict=True):
        if spec.context.name == PEER or spec.context.name in SUMMARISED:
            raise SpecError(
                f"--teacher {text}: the context '{spec.context.name}' needs texts that another model writes, which a "
                "probe does not order. Choose correct_demo, correct_wrong_demo or solution, or diagnose it."
            )
    return specs


def _seat(
    specs: Sequence[TeacherSpec], prompts: PromptOptions, student: CausalModel, loader: Loader
) -> tuple[Teacher, ...]:
    return tuple(
        Teacher(
            spec.name,
            student if spec.model == SELF else loader.load(spec.model, prompts.prompt_format(spec.name)),
            spec.context,
            prompts.frame(spec.context.name),
        )
        for spec in specs
    )


def _seat_objects(teachers: Mapping[str, CausalModel]) -> tuple[Teacher, ...]:
    return tuple(Teacher(name, model, ContextSpec("none")) for name, model in teachers.items())


def _writer(name: str, model: CausalModel, config: ProbeConfig) -> Writer:
    greedy = isinstance(config, PrefixConfig) and config.greedy
    warp = GREEDY if greedy else Warp(config.temperature, config.top_p)
    sampler = build_sampler(model, SamplingSettings(config.max_response_tokens, warp), batch_size=config.batch_size)
    return Writer(name, model, sampler)
