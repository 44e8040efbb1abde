"""From names to objects: models (each loaded once), teachers, objectives, task. Errors of a config surface here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hydrometer.alignment import ObjectiveInfo, Privilege
from hydrometer.credentials import refuse_secrets
from hydrometer.diagnosis.config import DEMO_TEACHERS, DiagnoseConfig
from hydrometer.diagnosis.continuation import Continuer, build_continuers, refuse_continuation
from hydrometer.diagnosis.given.rollouts import GivenRollouts
from hydrometer.diagnosis.given.source import Sources, open_sources
from hydrometer.diagnosis.roles import (
    build_context_samplers,
    build_peers,
    build_summarisers,
    build_teacher,
)
from hydrometer.diagnosis.state import QuestionState
from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, ScoreCache, Warp, check_token_maps, open_score_cache, parse_model_spec
from hydrometer.objectives import Objective, parse
from hydrometer.runs.budget import Budget, parse_budget
from hydrometer.runs.drawing import Grader, Writer
from hydrometer.runs.engines import require_scorers
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.runs.rollouts import Asked, ask_teacher
from hydrometer.runs.teachers import Teacher, cut_vocabulary, parse_teachers, refuse_reserved
from hydrometer.sampling import Sampler, SamplingSettings, build_sampler
from hydrometer.success.allocation import Allocation, FixedVisits, Map, OnPolicy, Windowed
from hydrometer.tasks import GradedElsewhere, grade_by, load_task
from hydrometer.teachers import ContextSpec, TeacherPrompt, TeacherSpec, TeacherView
from hydrometer.types import STUDENT, Question, Task


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
    aggregates: Mapping[str, str]
    """Teacher name -> name of its aggregate, where both are in the run."""
    privileged: Mapping[str, Privilege]
    """Teachers whose context is of the one question at hand."""
    prompts: PromptOptions
    peers: Mapping[str, Writer]
    summarisers: Mapping[str, Writer]
    context_samplers: Mapping[str, Sampler]
    """By teacher name, where teachers are to write rollouts of their own."""
    continuers: tuple[Continuer, ...]
    """Who continues after a forced token, the student first."""
    budget: Budget | None = None
    """What sampling may cost; None: whatever it takes."""
    given: GivenRollouts | None = None
    """Rollouts that are there already; None where the run samples its own."""
    score_cache: ScoreCache | None = None
    """Of the models that were loaded from specs."""

    @property
    def models(self) -> dict[str, CausalModel]:
        """Every model by what it is in this run."""
        return {
            STUDENT: self.student,
            **{teacher.name: teacher.model for teacher in self.teachers},
            **{f"peer:{name}": writer.model for name, writer in self.peers.items()},
            **{f"summariser:{name}": writer.model for name, writer in self.summarisers.items()},
        }

    @property
    def unlisted(self) -> frozenset[str]:
        """Teachers that had no say in what is a candidate, because another run chose them."""
        if self.given is None or self.given.kind != "run":
            return frozenset()
        return frozenset(teacher.name for teacher in self.teachers) - self.given.teachers

    @property
    def student_writer(self) -> Writer:
        """The student as it samples its responses."""
        return Writer(STUDENT, self.student, self.sampler)

    @property
    def grader(self) -> Grader:
        """Who says what is right."""
        return Grader(self.task, self.config.grading)

    def views(self, prompts: Mapping[str, TeacherPrompt]) -> list[TeacherView]:
        """Every teacher that is not skipped, with its prompt for one question (by teacher name)."""
        return [
            TeacherView(teacher.name, teacher.model, asked.prompt_ids, asked.mixture)
            for teacher in self.teachers
            if (prompt := prompts[teacher.name]).reason is None
            for asked in (ask_teacher(teacher.model, prompt),)
        ]

    def asked(self, state: QuestionState) -> dict[str, Asked]:
        """The prompt of everyone who continues responses to one question; teachers that are skipped there do not."""
        found = {}
        for name in self.continuations:
            if name == STUDENT:
                found[name] = Asked(state.prompt_ids, state.is_thinking)
            elif (prompt := state.prompts[name]).reason is None:
                found[name] = ask_teacher(self.models[name], prompt)
        return found

    @property
    def continuations(self) -> tuple[str, ...]:
        """The names of those who continue."""
        return tuple(continuer.name for continuer in self.continuers)

    @property
    def needs_demos(self) -> bool:
        """Whether some teacher is shown rollouts of the student."""
        return any(teacher.needs_demos for teacher in self.teachers)

    def questions(self) -> list[Question]:
        """The questions that may be diagnosed, as student and teachers see them."""
        return [self.prompts.show(question) for question in self.task.questions("diagnose")]

    @property
    def scored_objectives(self) -> tuple[Objective, ...]:
        """Those whose field comes from the teacher's distribution."""
        return tuple(objective for objective in self.objectives if objective.needs == "teacher")

    @property
    def directions(self) -> dict[str, ObjectiveInfo]:
        """What a ranking has to know of every objective, by name."""
        return {o.name: ObjectiveInfo(o.direction_key, o.reference) for o in self.objectives}

    @property
    def ranks_by_outcomes(self) -> bool:
        """Whether arms are ranked by the outcomes of paths; branches then measure the ideal direction's length."""
        return self.config.allocation == "choose"

    @property
    def needs_rewards(self) -> bool:
        """Whether some objective's field is estimated from the rewards of counted rollouts."""
        return any(objective.needs == "reward_to_go" for objective in self.objectives)

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
    refuse_secrets(config.model_dump(mode="json"), "config")
    config = config.follow_goal()
    budget = None if config.budget is None else parse_budget(config.budget)
    sources = open_sources(config)
    config = sources.resolve(config).fit_allocation()
    _refuse_contradictions(config)
    if student is None:
        parse_model_spec(config.student)  # misspelt names are told before anything is loaded
    specs = () if teachers is not None else _parse_teachers(config)
    objectives = parse_objectives(config.objective)
    _refuse_sampled_fields(config, objectives)
    refuse_continuation(config, objectives)
    task = _build_task(config, task, sources)
    prompts = read_prompt_options(config, specs, templates=config.template)
    if prompts.changes_formats and (student is not None or teachers is not None):
        raise SpecError(
            "chat_template, chat_template_kwargs and plain_prompt are for models given as specs; a model object brings "
            "its own way of writing prompts."
        )
    cache = open_score_cache(config.score_cache)
    loader = Loader(config, cache)
    student = student or loader.load(config.student, prompts.prompt_format(STUDENT))
    config = sources.fit(config, student)
    if teachers is not None:
        ready = tuple(Teacher(name, model, ContextSpec("none")) for name, model in teachers.items())
    else:
        ready = tuple(build_teacher(spec, config, prompts, student, loader) for spec in specs)
    if not ready:
        raise SpecError("A diagnosis needs at least one teacher, e.g. --teacher self+answer")
    refuse_reserved([teacher.name for teacher in ready])
    _refuse_unshowable(config, ready, task)
    settings = SamplingSettings(config.max_response_tokens, Warp(config.temperature, config.top_p))
    peers = build_peers(ready, config, prompts, settings, loader)
    summarisers = build_summarisers(ready, config, prompts, loader)
    loader.check_template_variables(prompts.kwargs)
    require_scorers([student, *(teacher.model for teacher in ready)])
    shared = check_token_maps(student, {teacher.name: teacher.model for teacher in ready})
    models = {id(model): cut_vocabulary(model, shared) for model in (student, *(teacher.model for teacher in ready))}
    student = models[id(student)]
    ready = tuple(replace(teacher, model=models[id(teacher.model)]) for teacher in ready)
    needs_demos = any(teacher.needs_demos for teacher in ready)
    given = sources.read(config, student, task, prompts, needs_demos=needs_demos)
    sampler = build_sampler(student, settings, batch_size=config.batch_size)
    aggregates = _find_partners(specs, {spec.name: spec.aggregate for spec in specs})
    return Instruments(
        config=config,
        task=task,
        student=student,
        sampler=sampler,
        teachers=ready,
        objectives=objectives,
        allocation=OnPolicy() if given is not None and given.kind == "run" else build_allocation(config),
        controls=_find_partners(specs, {spec.name: spec.control for spec in specs}),
        aggregates=aggregates,
        privileged=_find_privileges(specs, aggregates),
        prompts=prompts,
        peers=peers,
        summarisers=summarisers,
        context_samplers=build_context_samplers(ready, config, settings),
        continuers=build_continuers(config, Writer(STUDENT, student, sampler), ready),
        budget=budget,
        given=given,
        score_cache=cache,
    )


def _build_task(config: DiagnoseConfig, task: Task | None, sources: Sources) -> Task:
    """The task object, that of a file of rollouts, or the one that the config names."""
    if sources.file is not None:
        return sources.file.task(config.verifier)
    if task is None:
        return load_task(config.task, config.verifier)
    return task if config.verifier is None else grade_by(task, config.verifier)


def _refuse_unshowable(config: DiagnoseConfig, teachers: Sequence[Teacher], task: Task) -> None:
    """Contexts whose content this run cannot have for any question.

    Raises:
        SpecError: demonstrations without any rollout for them, or new texts that nothing can grade.
    """
    if not config.demos and (shown := next((t.name for t in teachers if t.needs_demos or t.peer), None)):
        raise SpecError(f"Teacher '{shown}' is shown demonstrations, and --demos 0 asks for none to be sampled.")
    if isinstance(task, GradedElsewhere) and (written := next((t for t in teachers if t.peer or t.summariser), None)):
        raise SpecError(
            f"Teacher '{written.name}' is shown texts that are yet to be written, which have to be graded: name a "
            "--verifier (and give the rows a column 'answer'), or leave this teacher out."
        )


def parse_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives that a diagnosis can evaluate.

    Raises:
        UserError: an unknown or doubled objective, or one that has no direction at a single node.
    """
    objectives = tuple(parse(text) for text in texts)
    for objective, text in zip(objectives, texts, strict=True):
        if objective.training_only:
            raise SpecError(f"Objective '{text}' is for training only; it has no direction that could be diagnosed.")
    doubled = [text for i, text in enumerate(texts) if objectives[i].name in {o.name for o in objectives[:i]}]
    if doubled:
        raise SpecError(f"Objective '{doubled[0]}' is given twice.")
    if not objectives:
        raise SpecError("A diagnosis needs at least one objective, e.g. --objective reverse_kl")
    return objectives


def _refuse_contradictions(config: DiagnoseConfig) -> None:
    """Options that are fine each by itself but not together.

    Raises:
        SpecError: branches that would be paid for and then kept nowhere; a pilot range that holds nothing.
    """
    if config.allocation != "on_policy" and config.visits < config.min_visits:
        raise SpecError(
            f"--visits {config.visits} brings no candidate to --min-visits {config.min_visits}, so none of them would "
            f"be kept. Lower --min-visits to {config.visits}, or raise --visits."
        )
    if config.allocation == "choose" and config.nodes_per_path is not None:
        raise SpecError("--nodes-per-path is not for --allocation choose, which scores all; see --nodes-per-question.")
    if config.pilot_low > config.pilot_high:
        raise SpecError(f"--pilot-low {config.pilot_low:g} is above --pilot-high {config.pilot_high:g}.")


def _refuse_sampled_fields(config: DiagnoseConfig, objectives: Sequence[Objective]) -> None:
    """Objectives whose field is known only where rollouts were counted, in a run that counts them at few nodes.

    Raises:
        SpecError: such an objective with `--allocation choose`.
    """
    sampled = next((objective.name for objective in objectives if objective.needs == "reward_to_go"), None)
    if config.allocation == "choose" and sampled:
        raise SpecError(f"Objective '{sampled}' needs branches at every node: take --allocation fixed, not choose.")


def build_allocation(config: DiagnoseConfig) -> Allocation:
    """The strategy that the config names."""
    match config.allocation:
        case "fixed" | "choose":
            return FixedVisits(config.visits)
        case "map":
            return Map(config.visits)
        case "windowed":
            return Windowed(config.visits, config.branch_budget)
        case "on_policy":
            return OnPolicy()


def _parse_teachers(config: DiagnoseConfig) -> tuple[TeacherSpec, ...]:
    if config.teacher == DEMO_TEACHERS and not config.student.startswith("bundled:"):
        raise SpecError(
            f"Student '{config.student}' needs teachers of its own, e.g. --teacher self+answer --teacher NAME=MODEL\n"
            "(the default teachers share the bundled student's tokenizer)."
        )
    if config.summariser is not None:
        parse_model_spec(config.summariser)
    return parse_teachers(config.teacher)


def _find_partners(specs: Sequence[TeacherSpec], contexts: Mapping[str, str | None]) -> dict[str, str]:
    """Teacher name -> name of the teacher of the same model under the context that is wanted, where both are there."""
    by_view = {(spec.model, str(spec.context)): spec.name for spec in specs}
    return {
        spec.name: by_view[spec.model, context]
        for spec in specs
        if (context := contexts[spec.name]) and (spec.model, context) in by_view
    }


def _find_privileges(specs: Sequence[TeacherSpec], aggregates: Mapping[str, str]) -> dict[str, Privilege]:
    """Of every teacher whose context is of the one question at hand."""
    found = {}
    for spec in specs:
        if spec.context.is_of_one_question:
            is_missing = spec.aggregate is not None and spec.name not in aggregates
            found[spec.name] = Privilege(str(spec.context), f"{spec.model}+{spec.aggregate}" if is_missing else None)
    return found
