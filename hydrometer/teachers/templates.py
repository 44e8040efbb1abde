"""Template files: words of one's own around a context's content (`--template CONTEXT=FILE`).

    [system]
    You grade strictly.
    [user]
    $prompt

    Someone wrote: $correct
    [assistant]
    <think>The answer is $answer.</think>

A file without section lines is the user section, which has to contain `$prompt`, what the student saw. `$name` stands
for a content, `$$` for a dollar sign. Blank lines around the system and user sections are dropped; the assistant
section is taken to its last character, so whether the response begins on a new line is the file's to say.
"""

import hashlib
import re
from collections.abc import Sequence
from string import Template
from typing import NamedTuple

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.inputs import read_plain_text
from hydrometer.teachers.contexts import FRAMES, Frame

_SECTIONS = ("system", "user", "assistant")
_SECTION_LINE = re.compile(r"^\[([a-z_]+)\][ \t]*$", re.MULTILINE)
_CONTENTS = ("answer", "wrong_answer", "solution", "correct", "wrong")


class TemplateFile(NamedTuple):
    """A context's own words, and the file they came from."""

    frame: Frame
    path: str
    text: str

    def describe(self) -> dict[str, str]:
        """What run.json says of it."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return {"file": self.path, "sha256": digest, "text": self.text}


def read_templates(texts: Sequence[str]) -> dict[str, TemplateFile]:
    """Read `CONTEXT=FILE` options; the result is by context.

    Raises:
        UnknownNameError: no such context.
        SpecError: not of that form, a context given twice or without words of its own, a file that cannot be read, or
            a template that does not read.
    """
    found: dict[str, TemplateFile] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise SpecError(f"--template '{text}': expected CONTEXT=FILE, e.g. correct_demo=words.txt")
        if name not in FRAMES:
            raise UnknownNameError("context", name, FRAMES)
        if name == "none":
            raise SpecError(f"--template '{text}': 'none' shows the student's own prompt, without words around it.")
        if name in found:
            raise SpecError(f"--template '{text}': '{name}' has a template already ({found[name].path}).")
        try:
            content = read_plain_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"--template '{text}': the file cannot be read ({error}).") from error
        found[name] = TemplateFile(parse_template(content, name, path), path, content)
    return found


def parse_template(content: str, context: str, path: str) -> Frame:
    """The frame that a template's text describes.

    Raises:
        SpecError: an unknown section or `$name`, a lone `$`, or a user section without `$prompt`.
    """
    sections = _split(content.replace("\r\n", "\n"), path)
    known = (*_CONTENTS, "rule") if context == "rule" else _CONTENTS
    used: dict[str, None] = {}
    for section, text in sections.items():
        allowed = ("prompt", *known) if section == "user" else known
        used |= dict.fromkeys(find_slots(text, allowed, f"{path}, [{section}]"))
    user = sections.get("user")
    if user is not None and "prompt" not in Template(user).get_identifiers():
        raise SpecError(f"{path}: the user section has to contain $prompt, which is what the student saw.")
    return Frame(
        user="$prompt" if user is None else user,
        system=sections.get("system"),
        assistant=sections.get("assistant", ""),
        slots=tuple(name for name in known if name in used),
    )


def _split(content: str, path: str) -> dict[str, str]:
    marks = list(_SECTION_LINE.finditer(content))
    if not marks:
        return {"user": content.strip()}
    if content[: marks[0].start()].strip():
        raise SpecError(f"{path}: there is text before the first section, {marks[0][0].strip()}.")
    sections: dict[str, str] = {}
    ends = [mark.start() for mark in marks[1:]] + [len(content)]
    for mark, end in zip(marks, ends, strict=True):
        name = mark[1]
        if name not in _SECTIONS:
            listed = ", ".join(f"[{section}]" for section in _SECTIONS)
            raise SpecError(f"{path}: unknown section [{name}]; the sections are {listed}.")
        if name in sections:
            raise SpecError(f"{path}: section [{name}] comes twice.")
        text = content[mark.end() : end].removeprefix("\n")
        sections[name] = text if name == "assistant" else text.strip()
    return sections


def find_slots(text: str, known: Sequence[str], place: str) -> list[str]:
    """The `$name`s of a text, each once.

    Raises:
        SpecError: one that is not known, or a lone `$`.
    """
    template = Template(text)
    names = template.get_identifiers()
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(f"${name}" for name in known)
        raise SpecError(f"{place}: unknown ${unknown[0]}. What can be put in here: {listed}.")
    if not template.is_valid():
        raise SpecError(f"{place}: a '$' that no name follows. Write $$ for a dollar sign.")
    return names
