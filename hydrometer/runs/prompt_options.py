"""The options that decide what models are shown: templates, system prompt, chat templates and their variables."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import Any

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.inputs import read_plain_text
from hydrometer.models.prompting import PromptFormat, parse_template_kwargs
from hydrometer.runs.options import PromptingOptions
from hydrometer.teachers import FRAMES, Frame, TeacherSpec, TemplateFile, find_slots, read_templates
from hydrometer.types import STUDENT, Message, Question

_NAMED = re.compile(r"^([A-Za-z0-9_.-]+)=(.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The options with their files read."""

    templates: Mapping[str, TemplateFile]
    """By context."""
    prompt_template: str | None
    """With `$question`."""
    system_prompt: str | None
    chat_templates: Mapping[str, str]
    """By teacher name, or `student`."""
    kwargs: Mapping[str, Any]
    plain: bool

    @property
    def changes_formats(self) -> bool:
        """Whether models have to be told how to write their prompts."""
        return bool(self.chat_templates or self.kwargs or self.plain)

    def frame(self, context: str) -> Frame:
        """The words around the content of a context."""
        return self.templates[context].frame if context in self.templates else FRAMES[context]

    def prompt_format(self, name: str | None) -> PromptFormat:
        """How prompts are written for `student`, a teacher by name, or (None) another model."""
        return PromptFormat(self.chat_templates.get(name) if name else None, self.kwargs, self.plain)

    def show(self, question: Question) -> Question:
        """The question as student and teachers see it: in the words of the prompt template, behind the system prompt.

        A question that came as a whole prompt is put into the template as the text of its last message.
        """
        if self.prompt_template is None:
            return self.add_system_prompt(question)
        *earlier, last = question.prompt
        asked = last.content if question.problem is None else question.problem
        worded = Message(last.role, Template(self.prompt_template).substitute(question=asked))
        return self.add_system_prompt(replace(question, prompt=(*earlier, worded)))

    def add_system_prompt(self, question: Question) -> Question:
        """The question with the system prompt first, before a system message of its own."""
        if self.system_prompt is None:
            return question
        first, *others = question.prompt
        if first.role == "system":
            joined = Message("system", f"{self.system_prompt}\n\n{first.content}")
            return replace(question, prompt=(joined, *others))
        return replace(question, prompt=(Message("system", self.system_prompt), *question.prompt))

    def describe(self) -> dict[str, Any]:
        """What run.json says: the texts themselves, so that an edited file is another run."""
        return {
            "template": {name: template.describe() for name, template in sorted(self.templates.items())},
            "prompt_template": self.prompt_template,
            "system_prompt": self.system_prompt,
            "chat_template": dict(sorted(self.chat_templates.items())),
            "chat_template_kwargs": dict(self.kwargs),
            "plain_prompt": self.plain,
        }


def read_prompt_options(
    options: PromptingOptions, teachers: Sequence[TeacherSpec] = (), *, templates: Sequence[str] = ()
) -> PromptOptions:
    """Read the files that the options name; `templates` are user templates as CONTEXT=FILE.

    Raises:
        UnknownNameError: a template for no context, a chat template for no teacher.
        SpecError: a file that cannot be read, or a text that is not of the form that is expected.
    """
    frames = read_templates(templates)
    for spec in teachers:
        template = frames.get(spec.context.name)
        if template is not None and spec.context.empty and not template.frame.slots:
            raise SpecError(
                f"Teacher '{spec.name}': the template {template.path} has no content that could be blanked."
            )
    return PromptOptions(
        frames,
        _read_prompt_template(options.prompt_template),
        _read_system_prompt(options.system_prompt),
        _read_chat_templates(options.chat_template, teachers),
        parse_template_kwargs(options.chat_template_kwargs),
        options.plain_prompt,
    )


def _read_prompt_template(given: str | None) -> str | None:
    if not given:
        return None
    text = _read_text(given, "--prompt-template")
    if not find_slots(text, ("question",), f"--prompt-template '{given}'"):
        raise SpecError(f"--prompt-template '{given}' has no $question in it, so every question would be the same.")
    return text


def _read_system_prompt(given: str | None) -> str | None:
    if given is None:
        return None
    text = _read_text(given, "--system-prompt")
    if not text:
        raise SpecError(f"--system-prompt '{given}' is empty. Leave the option out, or give TEXT or @FILE.")
    return text


def _read_chat_templates(given: Sequence[str], teachers: Sequence[TeacherSpec]) -> dict[str, str]:
    own_model = {spec.name: spec.model != "self" for spec in teachers}
    found: dict[str, str] = {}
    for text in given:
        named = None if os.path.isfile(os.path.expanduser(text)) else _NAMED.match(text)
        name, path = (named[1], named[2]) if named else (STUDENT, text)
        if name != STUDENT and name not in own_model:
            raise UnknownNameError("teacher (of --chat-template)", name, [STUDENT, *own_model])
        if name != STUDENT and not own_model[name]:
            raise SpecError(f"--chat-template '{text}': teacher '{name}' is the student; give FILE without a name.")
        if name in found:
            raise SpecError(f"--chat-template '{text}': '{name}' has one already.")
        found[name] = _read_file(path, f"--chat-template '{text}'")
    return found


def _read_text(given: str, option: str) -> str:
    """TEXT or the content of @FILE, without blanks around it."""
    return (_read_file(given[1:], f"{option} '{given}'") if given.startswith("@") else given).strip()


def _read_file(path: str, option: str) -> str:
    try:
        return read_plain_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{option}: the file cannot be read ({error}).") from error
