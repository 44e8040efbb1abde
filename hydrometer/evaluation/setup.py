"""From names to objects: the models, their samplers, the questions. Errors of a config surface here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydrometer.credentials import refuse_secrets
from hydrometer.errors import SpecError
from hydrometer.evaluation.config import SAMPLES, EvaluateConfig
from hydrometer.evaluation.evaluate import MODEL
from hydrometer.models import GREEDY, CausalModel, Warp, parse_model_spec
from hydrometer.runs.drawing import Writer
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions, read_prompt_options
from hydrometer.sampling import SamplingSettings, build_sampler
from hydrometer.tasks import grade_by, load_task
from hydrometer.teachers import ContextSpec, TeacherSpec
from hydrometer.types import STUDENT, Question, Task

AGAINST = "against"
"""The part of the second model in a run."""


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything an evaluation works with."""

    config: EvaluateConfig
    """With the number of samples and questions filled in."""
    task: Task
    questions: tuple[Question, ...]
    """As the models see them."""
    available: int
    """Questions of the split."""
    writers: tuple[Writer, ...]
    """The model, and the one it is compared with."""
    prompts: PromptOptions

    @property
    def samples(self) -> int:
        """Responses to each question."""
        assert self.config.samples is not None
        return self.config.samples

    @property
    def models(self) -> dict[str, CausalModel]:
        """By their part in the run."""
        return {writer.name: writer.model for writer in self.writers}


def build_examination(
    config: EvaluateConfig,
    *,
    model: CausalModel | None = None,
    against: CausalModel | None = None,
    task: Task | None = None,
) -> Examination:
    """Load what the config names; `model`, `against` and `task` given as objects take the place of their specs.

    Raises:
        UserError: an unknown name, a spec that does not fit, a model that cannot be loaded, a split without questions.
    """
    refuse_secrets(config.model_dump(mode="json"), "config")
    config = config.model_copy(update={"samples": _count_samples(config)})
    given = {MODEL: model, AGAINST: against}
    specs = {MODEL: config.model} if config.against is None else {MODEL: config.model, AGAINST: config.against}
    _check_specs(specs, given)
    if task is None:
        task = load_task(config.task, config.verifier)
    elif config.verifier is not None:
        task = grade_by(task, config.verifier)
    prompts = read_prompt_options(config, [TeacherSpec(AGAINST, spec, ContextSpec("none")) for spec in _others(specs)])
    if prompts.changes_formats and any(one is not None for one in given.values()):
        raise SpecError(
            "chat_template, chat_template_kwargs and plain_prompt are for models given as specs; a model object brings "
            "its own way of writing prompts."
        )
    everything = _questions(task, config)
    questions = tuple(prompts.show(question) for question in everything[: config.questions])
    return Examination(
        config=config.model_copy(update={"questions": len(questions)}) if config.questions is None else config,
        task=task,
        questions=questions,
        available=len(everything),
        writers=_build_writers(config, specs, given, prompts),
        prompts=prompts,
    )


def _count_samples(config: EvaluateConfig) -> int:
    if not config.greedy:
        return SAMPLES if config.samples is None else config.samples
    if config.samples not in (None, 1):
        raise SpecError(
            f"--greedy takes the most probable token each time, so --samples {config.samples} would all be the same "
            "response. Leave one of the two out."
        )
    return 1


def _check_specs(specs: Mapping[str, str], given: Mapping[str, CausalModel | None]) -> None:
    """Misspelt names are told before anything is loaded."""
    for name, spec in specs.items():
        if given[name] is None:
            parse_model_spec(spec)
    if given[MODEL] is None and given[AGAINST] is None and specs.get(AGAINST) == specs[MODEL]:
        raise SpecError(f"--against '{specs[MODEL]}' is the evaluated model itself; name another one.")


def _others(specs: Mapping[str, str]) -> list[str]:
    return [spec for name, spec in specs.items() if name != MODEL]


def _questions(task: Task, config: EvaluateConfig) -> Sequence[Question]:
    found = task.questions(config.split)
    if not found:
        raise SpecError(f"{task.name} has no questions in the split '{config.split}'. Choose another with --split.")
    return found


def _build_writers(
    config: EvaluateConfig,
    specs: Mapping[str, str],
    given: Mapping[str, CausalModel | None],
    prompts: PromptOptions,
) -> tuple[Writer, ...]:
    settings = SamplingSettings(
        config.max_response_tokens, GREEDY if config.greedy else Warp(config.temperature, config.top_p)
    )
    loader = Loader(config)
    writers = []
    for name, spec in specs.items():
        model = given[name]
        if model is None:
            model = loader.load(spec, prompts.prompt_format(STUDENT if name == MODEL else name))
        writers.append(Writer(name, model, build_sampler(model, settings, batch_size=config.batch_size)))
    loader.check_template_variables(prompts.kwargs)
    return tuple(writers)
