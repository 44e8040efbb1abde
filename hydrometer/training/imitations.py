"""What the student is to imitate: rows of a file, or what teachers write."""

import json
from collections.abc import Sequence
from typing import Any

from hydrometer.errors import SpecError
from hydrometer.inputs import read_plain_text
from hydrometer.models.transformers_model import TransformersModel
from hydrometer.runs.prompt_options import PromptOptions
from hydrometer.sampling import Sampler, SampleRequest, rollout_seed
from hydrometer.training.gradient import Imitation
from hydrometer.training.teaching import Seat
from hydrometer.types import Message, Question

_MOST_BYTES = 1 << 31


def read_imitations(path: str, student: TransformersModel, prompts: PromptOptions) -> tuple[Imitation, ...]:
    """Rows of a JSON-lines file with `prompt` (text or messages) and `response`, which gets an end of sequence.

    A prompt of messages is taken as it is; one of text gets the run's system prompt.

    Raises:
        SpecError: the file cannot be read, a row is not of that form, or there is none.
    """
    try:
        lines = read_plain_text(path, _MOST_BYTES).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--sft-from {path} cannot be read ({error}).") from error
    end = (student.tokenizer.eos_token_id,) if isinstance(student.tokenizer.eos_token_id, int) else ()
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prompt, response = _read_row(line, f"--sft-from {path}, line {number}")
        if isinstance(prompt, str):
            question = Question(str(number), "sft", (Message("user", prompt),), "")
            prompt = prompts.add_system_prompt(question).prompt
        found.append(Imitation(student.render(prompt), (*student.encode(response), *end)))
    if not found:
        raise SpecError(f"--sft-from {path} has no rows.")
    return tuple(found)


def _read_row(line: str, where: str) -> tuple[str | tuple[Message, ...], str]:
    try:
        row: Any = json.loads(line)
        prompt, response = row["prompt"], row["response"]
        if not isinstance(prompt, str):
            prompt = tuple(Message(str(message["role"]), str(message["content"])) for message in prompt)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError(f"{where}: expected an object with prompt (text or messages) and response.") from error
    if not prompt or not isinstance(response, str) or not response:
        raise SpecError(f"{where}: prompt and response must not be empty.")
    return prompt, response


def write_imitations(
    seats: Sequence[Seat],
    samplers: dict[str, Sampler],
    student: TransformersModel,
    places: Sequence[int],
    questions: Sequence[Question],
    *,
    step: int,
    seed: int,
) -> list[Imitation]:
    """One answer by every teacher to every question that it can be shown its context for; whole answers only.

    `places` are the questions' places in the step.
    """
    found = []
    for seat in seats:
        prompts = [seat.prompt(question, (), ()) for question in questions]
        asked = [
            (place, question, seat.prompt_ids(prompt))
            for place, question, prompt in zip(places, questions, prompts, strict=True)
            if prompt.reason is None
        ]
        requests = [
            SampleRequest(ids, (), rollout_seed(seed, f"imitate\x1f{seat.name}\x1f{place}\x1f{q.question_id}", step))
            for place, q, ids in asked
        ]
        with seat.as_teacher():
            written = samplers[seat.name].sample(requests)
        found += [
            Imitation(student.render(question.prompt), continuation.token_ids)
            for (_, question, _), continuation in zip(asked, written, strict=True)
            if continuation.ended
        ]
    return found
