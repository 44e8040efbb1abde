"""From messages to the text of a prompt: the chat template's options, plain text for base models, hidden thoughts."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.types import Message

_OURS = frozenset({"conversation", "messages", "tools", "documents", "chat_template", "tokenize", "return_dict"}) | {
    "add_generation_prompt", "continue_final_message", "return_tensors", "padding", "truncation", "max_length"
}  # fmt: skip
"""Names that decide how a template is called, not what it says."""
_OPENED = re.compile(r"<think>\s*$")
_EMPTY_THOUGHTS = re.compile(r"<think>\s*</think>(\s*)$")
_THOUGHTS = re.compile(r"^<think>\s*(.*?)\s*</think>\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a model's prompts are rendered, where it is not simply its own chat template."""

    chat_template: str | None = None
    """Takes the place of the tokenizer's."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Given to the template, e.g. {"enable_thinking": False}."""
    plain: bool = False
    """Put a question as plain text where there is no chat template."""


def parse_template_kwargs(texts: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` (the value is JSON, or else text) or a whole JSON object, several of them joined.

    Raises:
        SpecError: neither of these, a name given twice, or a name that is not the template's business.
    """
    found: dict[str, Any] = {}
    for text in texts:
        for name, value in _read_kwargs(text).items():
            if name in found:
                raise SpecError(f"--chat-template-kwargs '{text}': '{name}' is given twice.")
            if name in _OURS:
                raise SpecError(
                    f"--chat-template-kwargs '{text}': '{name}' is no variable of a template but says how one is used."
                )
            found[name] = value
    return found


def _read_kwargs(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"--chat-template-kwargs '{text[:200]}' is not JSON ({error}).") from error
        return dict(given)
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise SpecError(
            f"--chat-template-kwargs '{text}': expected name=value or a JSON object, e.g. enable_thinking=false"
        )
    try:
        return {name.strip(): json.loads(value)}
    except (ValueError, RecursionError):
        return {name.strip(): value}


def knows_variable(chat_template: str, name: str) -> bool:
    """Whether a template mentions `name`; what it does not mention it cannot heed."""
    return re.search(rf"\b{re.escape(name)}\b", chat_template) is not None


def render_plain(messages: Sequence[Message]) -> str:
    """The messages as text that a base model can go on with: `Question: ...`, an empty line, `Answer:`."""
    lead = {"user": "Question: ", "assistant": "Answer: ", "system": ""}
    turns = [f"{lead.get(message.role, '')}{message.content}" for message in messages]
    return "\n\n".join([*turns, "Answer:"])


def open_turn(prompt: str, assistant: str) -> str:
    """The prompt with the assistant's turn opened by `assistant`.

    Where the template has opened thoughts itself, or left an empty pair of them (thinking turned off), thoughts in
    `assistant` go into that pair, so that what follows stands where the student's response stands.
    """
    thoughts = _THOUGHTS.match(assistant)
    if thoughts and (empty := _EMPTY_THOUGHTS.search(prompt)):
        return f"{prompt[: empty.start()]}<think>\n{thoughts[1]}\n</think>{empty[1]}"
    if thoughts and (opened := _OPENED.search(prompt)):
        return f"{prompt[: opened.start()]}{assistant}"
    return prompt + assistant
