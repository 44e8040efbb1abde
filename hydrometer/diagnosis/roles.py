"""Who plays which part in a run: teachers, peers whose responses are shown, summarisers."""

from collections.abc import Sequence

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.errors import SpecError
from hydrometer.models import GREEDY, CausalModel
from hydrometer.models.vllm.engine import Served
from hydrometer.runs.drawing import Writer
from hydrometer.runs.loader import Loader
from hydrometer.runs.prompt_options import PromptOptions
from hydrometer.runs.teachers import Teacher
from hydrometer.sampling import Sampler, SamplingSettings, build_sampler
from hydrometer.teachers import PEER, SELF, SUMMARISED, TeacherSpec


def build_teacher(
    spec: TeacherSpec, config: DiagnoseConfig, prompts: PromptOptions, student: CausalModel, loader: Loader
) -> Teacher:
    """A teacher with its model, its words, and who writes what it is shown."""
    model = student if spec.model == SELF else loader.load(spec.model, prompts.prompt_format(spec.name))
    context = spec.context
    if context.aggregate and isinstance(model, Served):
        raise SpecError(
            f"Teacher '{spec.name}': an aggregate reads several prompts side by side, which '{model.spec}' does not. "
            "Load the model itself, or leave this teacher out."
        )
    own = config.student if spec.model == SELF else spec.model
    return Teacher(
        name=spec.name,
        model=model,
        context=context,
        frame=prompts.frame(context.name),
        peer=(context.argument or spec.model) if context.name == PEER else None,
        summariser=(config.summariser or own) if context.name in SUMMARISED else None,
    )


def build_context_samplers(
    teachers: Sequence[Teacher], config: DiagnoseConfig, settings: SamplingSettings
) -> dict[str, Sampler]:
    """What draws each teacher's own rollouts, by teacher name; none unless `context_rollouts` asks for some.

    Raises:
        SpecError: a teacher that can score but not write.
    """
    if not config.context_rollouts:
        return {}
    asked = (
        f"--context-rollouts {config.context_rollouts} asks for rollouts by every teacher.\n"
        "Leave --context-rollouts out, or give a model that can be sampled from."
    )
    return build_teacher_samplers(teachers, settings, batch_size=config.batch_size, asked=asked)


def build_teacher_samplers(
    teachers: Sequence[Teacher], settings: SamplingSettings, *, batch_size: int | None, asked: str
) -> dict[str, Sampler]:
    """What writes as each teacher, by its name; teachers that share a model share it.

    Args:
        teachers: of the run.
        settings: of all of them.
        batch_size: rollouts drawn together.
        asked: why teachers have to write, and what to do where one cannot.

    Raises:
        SpecError: a teacher that can score but not write.
    """
    samplers: dict[int, Sampler] = {}
    for teacher in teachers:
        if id(teacher.model) in samplers:
            continue
        try:
            samplers[id(teacher.model)] = build_sampler(teacher.model, settings, batch_size=batch_size)
        except TypeError as error:
            raise SpecError(
                f"Teacher '{teacher.name}' ({teacher.model.spec}) can score tokens but not write any, and {asked}"
            ) from error
    return {teacher.name: samplers[id(teacher.model)] for teacher in teachers}


def build_peers(
    teachers: Sequence[Teacher],
    config: DiagnoseConfig,
    prompts: PromptOptions,
    settings: SamplingSettings,
    loader: Loader,
) -> dict[str, Writer]:
    """Who writes demonstrations, by spec: the teacher itself where no other model is named."""
    peers: dict[str, Writer] = {}
    for teacher in teachers:
        if teacher.peer is None or teacher.peer in peers:
            continue
        own = not teacher.context.argument
        model = teacher.model if own else loader.load(teacher.peer, prompts.prompt_format(None))
        sampler = build_sampler(model, settings, batch_size=config.batch_size)
        peers[teacher.peer] = Writer(teacher.peer, model, sampler)
    return peers


def build_summarisers(
    teachers: Sequence[Teacher], config: DiagnoseConfig, prompts: PromptOptions, loader: Loader
) -> dict[str, Writer]:
    """Who writes summaries, by spec; the most probable token each time."""
    summarisers: dict[str, Writer] = {}
    for teacher in teachers:
        if teacher.summariser is None or teacher.summariser in summarisers:
            continue
        model = teacher.model
        if config.summariser is not None:
            model = loader.load(config.summariser, prompts.prompt_format(None))
        settings = SamplingSettings(config.max_summary_tokens, GREEDY)
        sampler = build_sampler(model, settings, batch_size=config.batch_size)
        summarisers[teacher.summariser] = Writer(teacher.summariser, model, sampler)
    return summarisers
