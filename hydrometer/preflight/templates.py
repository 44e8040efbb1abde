"""Does a chat template open the assistant's turn, does the model know its marks, and where do prompt and response meet?

All of it is read off the template by rendering: a finished assistant turn shows how turns begin and end.
"""

import re
from typing import NamedTuple

from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Conventional
from hydrometer.preflight.findings import Finding
from hydrometer.preflight.subjects import Sample
from hydrometer.types import STUDENT, Message

_REPLY = "reply 7316"
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)\s*", re.DOTALL)
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|<(?:start|end)_of_\w{1,20}>|<im_(?:start|end)>")
_ROLE = re.compile(r"assistant|model|bot|gpt|response|answer|\bai\b", re.IGNORECASE)
_USER = re.compile(r"user|human", re.IGNORECASE)
_OWN_TEMPLATE = "Use the chat template that the model was trained with."


class _Turn(NamedTuple):
    """One rendered exchange, cut at the assistant's words."""

    prompt: str
    head: str
    tail: str


def check_template(name: str, model: CausalModel, messages: tuple[Message, ...]) -> list[Finding]:
    """How the template opens and ends the assistant's turn, and whether its marks are tokens."""
    if not isinstance(model, Conventional):
        found = "the model has no tokenizer files or chat template that could be checked"
        return [Finding("note", "chat template", name, found)]
    try:
        finished = model.finished_text((*messages, Message("assistant", _REPLY)))
    except SpecError as error:
        return [Finding("note", "chat template", name, f"refuses a finished turn, so it is not checked: {error}")]
    prompt = model.prompt_text(messages)
    head, found, tail = finished.partition(_REPLY)
    if not found:
        shown = "the template does not repeat what an assistant said, so the way it ends a turn is not checked"
        return [Finding("note", "chat template", name, shown)]
    turn = _Turn(prompt, head, tail)
    return [
        _opening(name, turn, messages[-1].content),
        *_marks(name, model, turn, messages),
        _end_of_turn(name, model, turn),
    ]


def check_boundary(name: str, model: CausalModel, samples: list[Sample]) -> list[Finding]:
    """Does a response token merge into the prompt when both are tokenised as one text? Is the first token doubled?"""
    if not isinstance(model, Conventional):
        return []
    findings = [_first_tokens(name, model, samples[0].messages)]
    for sample in samples:
        apart = model.render(sample.messages)
        text = model.decode(sample.drawn.token_ids)
        together = model.encode(model.prompt_text(sample.messages) + text)
        if together[: len(apart)] == apart:
            continue
        at = next(i for i, token in enumerate(apart) if together[i : i + 1] != (token,))
        pair = (
            f"{model.token_text(apart[at])!r} becomes {model.token_text(together[at])!r}" if together[at:] else "gone"
        )
        findings.append(
            Finding(
                "note",
                "prompt boundary",
                name,
                f"tokenised as one text, the response merges into prompt token {at} of {len(apart)} ({pair})",
                "Hydrometer joins ids, so its numbers hold; software that tokenises prompt and response as one text "
                "sees every token shifted.",
                "End the template with a token of its own (no trailing space), and pass ids wherever you train.",
            )
        )
        return findings
    found = f"prompt and response tokenise alike together and apart ({len(samples)} probe responses)"
    return [*findings, Finding("green", "prompt boundary", name, found)]


def _opening(name: str, turn: _Turn, asked: str) -> Finding:
    check = "chat template"
    _, is_there, opened = turn.prompt.rpartition(asked.strip())
    if is_there and _USER.search(opened) and not _ROLE.search(opened):
        return Finding(
            "red",
            check,
            name,
            f"the prompt ends with {_end(opened)}, which opens a turn of the user",
            "The model is asked to write the next question, not an answer.",
            _OWN_TEMPLATE,
        )
    prompt, head = (_THOUGHT.sub("", text).rstrip() for text in (turn.prompt, turn.head))
    if prompt == head:
        return Finding("green", check, name, f"opens the assistant's turn with {_end(turn.prompt)}")
    if head.startswith(prompt) and not _ROLE.search(head[len(prompt) :]):
        found = f"writes {head[len(prompt) :]!r} before an assistant's words, but does not open a turn with it"
        return Finding("note", check, name, found, "The student has to write that part itself.")
    if prompt.startswith(head):
        return Finding("note", check, name, f"opens the turn with {prompt[len(head) :]!r}, not kept in finished turns")
    return Finding(
        "red",
        check,
        name,
        f"assistant turns begin with {_end(turn.head)}, but the prompt ends with {_end(turn.prompt)}",
        "The model is asked to go on with another speaker's turn, so what it says is not what it would answer.",
        "Repair the template's add_generation_prompt part, or use the one the model was trained with.",
    )


def _marks(name: str, model: CausalModel, turn: _Turn, messages: tuple[Message, ...]) -> list[Finding]:
    said = "".join(message.content for message in messages)
    marks = [mark for mark in dict.fromkeys(_MARK.findall(turn.prompt)) if mark not in said]
    split = [mark for mark in marks if not _is_token(model, mark)]
    if not split:
        return []
    return [
        Finding(
            "note",
            "template marks",
            name,
            f"the template writes {', '.join(split[:3])}, which are no tokens of this tokenizer",
            "A few models were trained so; more often it is the template of another model.",
            _OWN_TEMPLATE,
        )
    ]


def _end_of_turn(name: str, model: CausalModel, turn: _Turn) -> Finding:
    assert isinstance(model, Conventional)
    check = "end of turn"
    ids = model.encode(turn.tail)
    special = [i for i in ids if i in model.conventions().special_ids]
    if any(i in model.eos_ids for i in ids):
        return Finding("green", check, name, f"turns end with {_start(turn.tail)}, which ends a response")
    mark = _MARK.match(turn.tail.lstrip())
    if mark and not _is_token(model, mark[0]):
        return Finding(
            "red",
            check,
            name,
            f"turns end with {mark[0]}, which is no token of this tokenizer",
            "The template is that of another model: turns do not end, and the model reads marks it was not trained on.",
            _OWN_TEMPLATE,
        )
    if not special:
        found = f"the template ends a turn with {_start(turn.tail)}; only the end-of-sequence token ends a response"
        return Finding("note", check, name, found if turn.tail.strip() else "the template ends turns with no token")
    text = model.token_text(special[0])
    found = f"the template ends turns with {text!r} ({special[0]}), which is not among the end-of-sequence ids"
    if name != STUDENT:
        consequence = "This teacher may expect another end of a response than the student's."
        return Finding("note", check, name, found, consequence, _OWN_TEMPLATE)
    return Finding(
        "red",
        check,
        name,
        f"{found} {sorted(model.eos_ids)}",
        "The student ends its turn and the sampler does not see it: responses run to the length limit.",
        f"Add {special[0]} to eos_token_id in the model's generation_config.json, or use the template that fits it.",
    )


def _first_tokens(name: str, model: CausalModel, messages: tuple[Message, ...]) -> Finding:
    assert isinstance(model, Conventional)
    check = "beginning of text"
    conventions, ids = model.conventions(), model.render(messages)
    bos = conventions.bos_id
    if bos is not None and ids[:2] == (bos, bos):
        return Finding(
            "red",
            check,
            name,
            f"the prompt begins with {model.token_text(bos)!r} twice",
            "The model never saw two; all its probabilities shift.",
            "Take one of them out of the chat template.",
        )
    if bos is not None and conventions.adds_bos and ids[:1] != (bos,):
        return Finding(
            "note",
            check,
            name,
            f"the tokenizer begins texts with {model.token_text(bos)!r}, the chat template does not",
            "Prompts are rendered by the template alone, as chat software does, so they begin without it.",
            "If the model was trained with it, write it into the template.",
        )
    shown = (
        f"with {model.token_text(ids[0])!r}, once" if bos is not None and ids[:1] == (bos,) else "with its own words"
    )
    return Finding("green", check, name, f"the prompt begins {shown}")


def _is_token(model: CausalModel, mark: str) -> bool:
    """Whether the tokenizer has a mark as one token of its own (not as an unknown one)."""
    assert isinstance(model, Conventional)
    ids = model.encode(mark)
    return len(ids) == 1 and model.token_text(ids[0]).strip() == mark


def _end(text: str) -> str:
    return repr(text[-24:])


def _start(text: str) -> str:
    return repr(text[:24])
