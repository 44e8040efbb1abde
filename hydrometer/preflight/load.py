"""From specs to the subjects of a check."""

from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Warp, parse_model_spec
from hydrometer.objectives import Objective, parse
from hydrometer.preflight.subjects import Dtype, Subjects, default_probe_tokens
from hydrometer.sampling import SamplingSettings, build_sampler
from hydrometer.tasks import load_task
from hydrometer.teachers import SELF, TeacherSpec, parse_teacher
from hydrometer.types import STUDENT, Message

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


class LoadOptions(NamedTuple):
    """How models are loaded and probed."""

    task: str | None = None
    """Task spec whose first questions are asked."""
    prompt: str | None = None
    """One question to ask instead."""
    objectives: tuple[str, ...] = ()
    """Objective specs to check beside `CHECKED_OBJECTIVES`."""
    warp: Warp = Warp()
    dtype: Dtype = "float32"
    device: str = "cpu"
    probe_tokens: int | None = None
    seed: int = 0


def build_subjects(student: str, teachers: Sequence[str], options: LoadOptions) -> Subjects:
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
    prompts = _prompts(mine.model, options)
    objectives = _objectives(options.objectives)
    loaded: dict[str, CausalModel] = {}
    model = _load(mine.model, options, loaded)
    named = {spec.name: _load(spec.model, options, loaded) for spec in others if spec.model != SELF}
    length = options.probe_tokens or default_probe_tokens(model)
    return Subjects(
        model,
        build_sampler(model, SamplingSettings(length, options.warp)),
        distinct_teachers(model, named),
        prompts,
        objectives,
        options.warp,
        options.dtype,
        options.seed,
        length,
    )


def distinct_teachers(student: CausalModel, teachers: dict[str, CausalModel]) -> dict[str, CausalModel]:
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


def _prompts(student: str, options: LoadOptions) -> tuple[tuple[Message, ...], ...]:
    if options.prompt is not None:
        if not options.prompt.strip():
            raise SpecError("--prompt is empty; give a question to ask, or leave it out.")
        return ((Message("user", options.prompt),),)
    task = options.task or ("bundled:chain" if student.startswith("bundled:") else None)
    if task is None:
        return tuple((Message("user", text),) for text in _PLAIN_PROMPTS)
    return tuple(question.prompt for question in load_task(task).questions("diagnose")[:_PROMPTS])


def _objectives(asked: Sequence[str]) -> tuple[Objective, ...]:
    found = [parse(text) for text in (*CHECKED_OBJECTIVES, *asked)]
    for objective, text in zip(found[len(CHECKED_OBJECTIVES) :], asked, strict=True):
        if objective.needs != "teacher":
            raise SpecError(f"Objective '{text}' is not made from a teacher's distribution, so there is none to check.")
    return tuple({objective.name: objective for objective in found}.values())


def _load(spec: str, options: LoadOptions, loaded: dict[str, CausalModel]) -> CausalModel:
    if spec not in loaded:
        from hydrometer.models.transformers_model import load_model  # loads transformers

        loaded[spec] = load_model(spec, dtype=options.dtype, device=options.device)
    return loaded[spec]
