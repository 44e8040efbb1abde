"""Teacher specs: `[NAME=]MODEL[+CONTEXT]`, where MODEL may be `self`."""

import re
from dataclasses import dataclass

from hydrometer.credentials import refuse_secrets
from hydrometer.errors import SpecError
from hydrometer.models.specs import is_folder
from hydrometer.teachers.contexts import AGGREGATED, FRAMES, ContextSpec, parse_context

SELF = "self"
_NAMED = re.compile(r"^([A-Za-z0-9_.-]+)=(.*)$", re.DOTALL)
_CONTEXT = re.compile(rf"\+(?=(?:(?:empty|aggregate):)?(?:{'|'.join(FRAMES)})(?:$|:))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """One teacher of a run."""

    name: str
    model: str
    """A model spec, or `self`."""
    context: ContextSpec

    @property
    def control(self) -> str | None:
        """The context of its control (`empty:CONTEXT`), where there is one."""
        blankable = FRAMES[self.context.name].slots and not (self.context.empty or self.context.aggregate)
        return f"empty:{self.context}" if blankable else None

    @property
    def aggregate(self) -> str | None:
        """The context of its aggregate (`aggregate:CONTEXT`), where there is one."""
        is_mixed = self.context.name in AGGREGATED and not (self.context.empty or self.context.aggregate)
        return f"aggregate:{self.context}" if is_mixed else None


def parse_teacher(text: str) -> TeacherSpec:
    """Read a teacher spec; the context starts at the first `+` that a context name follows.

    Raises:
        UnknownNameError: an unknown context.
        SpecError: an empty model, or a spec with a password in it.
    """
    refuse_secrets(text, "The teacher spec")
    named = _NAMED.match(text)
    name, rest = (named[1], named[2]) if named else (text, text)
    found = _CONTEXT.search(rest)
    model = rest[: found.start()] if found else rest
    if not found and "+" in rest and not _is_path(rest):
        parse_context(rest.partition("+")[2])  # no other model has a '+' in its name: say which contexts there are
    context = parse_context(rest[found.end() :]) if found else ContextSpec("none")
    if not model.strip():
        raise SpecError(f"Teacher '{text}' names no model. Expected [NAME=]MODEL[+CONTEXT], e.g. self+answer.")
    return TeacherSpec(name, model, context)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or is_folder(text)
