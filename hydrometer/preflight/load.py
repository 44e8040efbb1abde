"""From specs to the subjects of a check."""

from collections.abc import Mapping, Sequence

from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Warp, parse_model_spec
from hydrometer.objectives import Objective, parse
from hydrometer.preflight.config import CheckConfig
from hydrometer.preflight.subjects import Subjects, default_probe_tokens
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.sampling import SamplingSettings, build_sampler
from hydrometer.tasks import load_task
from hydrometer.teachers import SELF, TeacherSpec, parse_teacher
from hydrometer.types import STUDENT, Message, Question

_PROMPTS = 4
_PLAIN_PROMPTS = (
    "What is 17 + 26 - 9? Work it out step by step, then give the result.",
    "Name three animals that can fly, one to a line.",
    "Is water heavier than oil? Answer yes or no, and say why in one sentence.",
    "Write the next two numbers: 2, 4, 8, 16.",
)
CHECKED_OBJECTIVES = (
    "reverse_kl",
    "forward_kl",
    "jsd:beta=0.5",
    "sampled_token",
    "k1_loss",
    "k2",
    "k3",
    *(
        f"topk_reverse_kl:k=4,form={form},support={support}"
        for form in ("stop_gradient", "renormalised", "tail_bin")
        for support in ("student", "teacher", "union", "intersection")
    ),
)
"""Objectives made from a teacher's distribution that have to be silent where it is the student's."""


def build_subjects(student: str, teachers: Sequence[str], config: CheckConfig) -> Subjects:
    """Load the models that `hydrometer check` names, each once.

    Raises:
        UserError: an unknown name, a context where a model is expected, a model that cannot be loaded.
    """
    mine, *others = specs = [_model_spec(text) for text in (student, *teachers)]
    for spec in specs:
        if spec.model != SELF:
            parse_model_spec(spec.model)  # misspelt names are told before anything is loaded
    if mine.model == SELF:
        raise SpecError(f"'{student}': the student has to be a model, e.g. bundled:student.")
    _refuse_same_names(others)
    options = read_prompt_options(config, others)
    prompts = _prompts(mine.model, config, options)
    objectives = _objectives(config.objective)
    loader = Loader(config)
    model = loader.load(mine.model, options.prompt_format(STUDENT))
    named = {s.name: loader.load(s.model, options.prompt_format(s.name)) for s in others if s.model != SELF}
    loader.check_template_variables(options.kwargs)
    length = config.probe_tokens or default_probe_tokens(model)
    warp = Warp(config.temperature, config.top_p)
    return Subjects(
        model,
        build_sampler(model, SamplingSettings(length, warp), batch_size=config.batch_size),
        distinct_teachers(model, named),
        prompts,
        objectives,
        warp,
        config.dtype,
        config.seed,
        length,
    )


def distinct_teachers(student: CausalModel, teachers: Mapping[str, CausalModel]) -> dict[str, CausalModel]:
    """Each model other than the student under the first name it has."""
    seen = {id(student)}
    distinct: dict[str, CausalModel] = {}
    for name, model in teachers.items():
        if id(model) not in seen:
            distinct[name] = model
        seen.add(id(model))
    return distinct


def _model_spec(text: str) -> TeacherSpec:
    spec = parse_teacher(text)
    if spec.context.name != "none":
        raise SpecError(
            f"'{text}': check compares models, and '+{spec.context}' is a context. Leave it out: {spec.model}"
        )
    return spec


def _refuse_same_names(specs: Sequence[TeacherSpec]) -> None:
    names = [STUDENT]
    for spec in specs:
        if spec.name in names:
            raise SpecError(f"Two models are called '{spec.name}'. Give one a name of its own: NAME={spec.model}")
        names.append(spec.name)


def _prompts(student: str, config: CheckConfig, options: PromptOptions) -> tuple[tuple[Message, ...], ...]:
    if config.task is not None and config.prompt is not None:
        raise SpecError("--task and --prompt both say what to ask; give one of them.")
    if config.prompt is not None and not config.prompt.strip():
        raise SpecError("--prompt is empty; give a question to ask, or leave it out.")
    task = config.task or ("bundled:chain" if student.startswith("bundled:") else None)
    if config.prompt is not None or task is None:
        asked = _PLAIN_PROMPTS if config.prompt is None else (config.prompt,)
        questions = [Question(str(i), "probe", (Message("user", text),), "") for i, text in enumerate(asked)]
    else:
        questions = list(load_task(task).questions("diagnose")[:_PROMPTS])
    return tuple(options.show(question).prompt for question in questions)


def _objectives(asked: Sequence[str]) -> tuple[Objective, ...]:
    found = [parse(text) for text in (*CHECKED_OBJECTIVES, *asked)]
    for objective, text in zip(found[len(CHECKED_OBJECTIVES) :], asked, strict=True):
        if objective.needs != "teacher":
            raise SpecError(f"Objective '{text}' is not made from a teacher's distribution, so there is none to check.")
    return tuple({objective.name: objective for objective in found}.values())
