"""From names to objects: models (each loaded once), teachers, objectives, task. Errors of a config surface here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydrometer.diagnosis.config import DEMO_TEACHERS, DiagnoseConfig
from hydrometer.diagnosis.memory import explain_memory
from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Warp, check_token_maps, parse_model_spec
from hydrometer.objectives import Objective, parse
from hydrometer.sampling import Sampler, SamplingSettings, build_sampler
from hydrometer.success.allocation import Allocation, FixedVisits, OnPolicy, Windowed
from hydrometer.tasks import grade_by, load_task
from hydrometer.teachers import SELF, ContextSpec, TeacherSpec, parse_teacher
from hydrometer.types import Task


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher ready to score."""

    name: str
    model: CausalModel
    context: ContextSpec


@dataclass(frozen=True, slots=True)
class Instruments:
    """Everything a diagnosis works with."""

    config: DiagnoseConfig
    task: Task
    student: CausalModel
    sampler: Sampler
    teachers: tuple[Teacher, ...]
    objectives: tuple[Objective, ...]
    allocation: Allocation
    controls: Mapping[str, str]
    """Teacher name -> name of its control, where both are in the run."""

    @property
    def scored_objectives(self) -> tuple[Objective, ...]:
        """Those whose field comes from the teacher's distribution."""
        return tuple(objective for objective in self.objectives if objective.needs == "teacher")

    @property
    def warp(self) -> Warp:
        """How the student is sampled."""
        return Warp(self.config.temperature, self.config.top_p)


def build_instruments(
    config: DiagnoseConfig,
    *,
    student: CausalModel | None = None,
    teachers: Mapping[str, CausalModel] | None = None,
    task: Task | None = None,
) -> Instruments:
    """Load what the config names; `student`, `teachers` and `task` given as objects take the place of their specs.

    Raises:
        UserError: an unknown name, a spec that does not fit, a model that cannot be loaded, different token maps.
    """
    if student is None:
        parse_model_spec(config.student)  # misspelt names are told before anything is loaded
    specs = _parse_teachers(config, given=teachers is not None)
    objectives = parse_objectives(config.objective)
    if task is None:
        task = load_task(config.task, config.verifier)
    elif config.verifier is not None:
        task = grade_by(task, config.verifier)
    allocation = build_allocation(config)
    loaded: dict[str, CausalModel] = {}
    student = student or _load(config.student, config, loaded)
    if teachers is not None:
        ready = tuple(Teacher(name, model, ContextSpec("none")) for name, model in teachers.items())
    else:
        ready = tuple(
            Teacher(s.name, student if s.model == SELF else _load(s.model, config, loaded), s.context) for s in specs
        )
    shared = check_token_maps(student, {teacher.name: teacher.model for teacher in ready})
    for model in (student, *(teacher.model for teacher in ready)):
        model.vocab_size = shared
    settings = SamplingSettings(config.max_response_tokens, Warp(config.temperature, config.top_p))
    sampler = build_sampler(student, settings, batch_size=config.batch_size)
    return Instruments(config, task, student, sampler, ready, objectives, allocation, _find_controls(specs))


def parse_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives that a diagnosis can evaluate.

    Raises:
        UserError: an unknown or doubled objective, or one that has no direction at a single node yet.
    """
    objectives = tuple(parse(text) for text in texts)
    for objective, text in zip(objectives, texts, strict=True):
        if objective.training_only:
            raise SpecError(f"Objective '{text}' is for training only; it has no direction that could be diagnosed.")
        if objective.needs == "reward_to_go":
            raise SpecError(f"Objective '{text}' needs rewards to go, which a diagnosis does not estimate yet.")
    doubled = [text for i, text in enumerate(texts) if objectives[i].name in {o.name for o in objectives[:i]}]
    if doubled:
        raise SpecError(f"Objective '{doubled[0]}' is given twice.")
    if not objectives:
        raise SpecError("A diagnosis needs at least one objective, e.g. --objective reverse_kl")
    return objectives


def build_allocation(config: DiagnoseConfig) -> Allocation:
    """The strategy that the config names."""
    match config.allocation:
        case "fixed":
            return FixedVisits(config.visits)
        case "windowed":
            return Windowed(config.visits, config.branch_budget)
        case "on_policy":
            return OnPolicy()


def _parse_teachers(config: DiagnoseConfig, *, given: bool) -> tuple[TeacherSpec, ...]:
    if given:
        return ()
    if config.teacher == DEMO_TEACHERS and not config.student.startswith("bundled:"):
        raise SpecError(
            f"Student '{config.student}' needs teachers of its own, e.g. --teacher self+answer --teacher NAME=MODEL\n"
            "(the default teachers share the bundled student's tokenizer)."
        )
    specs = tuple(parse_teacher(text) for text in config.teacher)
    for number, spec in enumerate(specs):
        if spec.name in {other.name for other in specs[:number]}:
            raise SpecError(
                f"Two teachers are called '{spec.name}', the second is '{config.teacher[number]}'.\n"
                "Give it a name of its own: --teacher NAME=MODEL[+CONTEXT]"
            )
        if spec.model != SELF:
            parse_model_spec(spec.model)
    if not specs:
        raise SpecError("A diagnosis needs at least one teacher, e.g. --teacher self+answer")
    return specs


def _find_controls(specs: Sequence[TeacherSpec]) -> dict[str, str]:
    by_view = {(spec.model, str(spec.context)): spec.name for spec in specs}
    return {
        spec.name: by_view[spec.model, spec.control]
        for spec in specs
        if spec.control and (spec.model, spec.control) in by_view
    }


def _load(spec: str, config: DiagnoseConfig, loaded: dict[str, CausalModel]) -> CausalModel:
    if spec not in loaded:
        from hydrometer.models.transformers_model import load_model  # loads transformers

        with explain_memory(f"Loading '{spec}' takes more than there is. Try --dtype bfloat16 or a smaller model."):
            loaded[spec] = load_model(spec, dtype=config.dtype, device=config.device)
    return loaded[spec]
