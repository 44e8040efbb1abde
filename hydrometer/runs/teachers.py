"""Teachers of a run: their specs read, their names checked, their vocabularies cut to what all models share."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, parse_model_spec
from hydrometer.teachers import FRAMES, PEER, SELF, ContextSpec, Frame, TeacherSpec, needs_demonstrations, parse_teacher
from hydrometer.types import NO_TEACHER, STUDENT


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher ready to score."""

    name: str
    model: CausalModel
    context: ContextSpec
    frame: Frame = FRAMES["none"]
    """The words around what it is shown."""
    peer: str | None = None
    """Who writes the demonstrations, where it is not the student."""
    summariser: str | None = None
    """Who condenses them, where someone does."""

    @property
    def needs_demos(self) -> bool:
        """Whether it is shown rollouts of the student."""
        return needs_demonstrations(self.context, self.frame)


def parse_teachers(texts: Sequence[str]) -> tuple[TeacherSpec, ...]:
    """Read teacher specs; misspelt models are told before anything is loaded.

    Raises:
        UserError: a spec that cannot be read, two teachers of one name, a name that stands for something else.
    """
    specs = tuple(parse_teacher(text) for text in texts)
    for number, (spec, text) in enumerate(zip(specs, texts, strict=True)):
        if spec.name in {other.name for other in specs[:number]}:
            raise SpecError(
                f"Two teachers are called '{spec.name}', the second is '{text}'.\n"
                "Give it a name of its own: --teacher NAME=MODEL[+CONTEXT]"
            )
        _check_models(spec, text)
    return specs


def _check_models(spec: TeacherSpec, text: str) -> None:
    if spec.model != SELF:
        parse_model_spec(spec.model)
    if spec.context.name != PEER:
        return
    peer = spec.context.argument or spec.model
    if peer == SELF:
        raise SpecError(
            f"Teacher '{text}': a peer is another model than the student; name one, e.g. self+peer_demo:MODEL\n"
            "(demonstrations by the student itself are the context correct_demo)."
        )
    parse_model_spec(peer)


def refuse_aggregates(specs: Sequence[TeacherSpec], instead: str) -> None:
    """Refuse teachers that are the mean over several contexts, where only one can be shown.

    Args:
        specs: of the run.
        instead: what to take in their place; a sentence.

    Raises:
        SpecError: there is one.
    """
    if found := next((spec for spec in specs if spec.context.aggregate), None):
        raise SpecError(f"Teacher '{found.name}': 'aggregate:' is for `hydrometer diagnose`. {instead}")


def refuse_reserved(names: Sequence[str]) -> None:
    """Refuse a teacher that is called what something else is called in run folders.

    Raises:
        SpecError: there is one.
    """
    reserved = [name for name in names if name in (STUDENT, NO_TEACHER)]
    if reserved:
        raise SpecError(f"A teacher cannot be called '{reserved[0]}': that name stands for something else in a run.")


def cut_vocabulary(model: CausalModel, shared: int) -> CausalModel:
    """The model on the vocabulary that all share; the caller's own object keeps the whole of its vocabulary."""
    if model.vocab_size == shared:
        return model
    narrowed = copy(model)
    narrowed.vocab_size = shared
    return narrowed
