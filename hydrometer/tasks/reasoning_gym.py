"""`reasoning_gym:NAME`: questions made by the package reasoning-gym, which also scores them.

Each split has a seed of its own. A question of the test split that also came up in `diagnose`, or of the train split
that came up in either, is left out, so that splits are disjoint in what they ask and not only in their seeds.

Some of the package's tasks draw from sets of words or letters, whose order Python chooses anew for every process, or
from Python's own random numbers. So questions are made in a process with a fixed order, the one that verifiers run with
too, each item from the same random numbers: every run asks the same.
"""

import contextlib
import importlib
import os
import random
import subprocess
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks.rows import Split
from hydrometer.tasks.wire import FIXED_ORDER, child_command, decode_questions, encode_questions
from hydrometer.types import Message, Question

SIZES: dict[Split, int] = {"diagnose": 200, "test": 200, "train": 1000}
"""Questions of each split, fewer where a task has not so many different ones."""
_SEEDS: dict[Split, int] = {"diagnose": 1_000_000, "test": 2_000_000, "train": 3_000_000}
"""Far apart: a question is drawn from its seed plus its index."""
_PATIENCE = 3
"""Indices tried for each question wanted."""
_WRONG_TRIES = 8
_PROMPT = "{question}\n\nThink step by step, then finish with 'Answer:' followed by nothing but the answer."


class ReasoningGymQuestions:
    """The questions of one reasoning-gym task, made when a split is asked for."""

    verifier = "reasoning_gym"

    def __init__(self, generator: str):
        self.name = f"reasoning_gym:{generator}"
        self._generator = generator
        self._made: dict[Split, tuple[Question, ...]] = {}

    def questions(self, split: Split) -> tuple[Question, ...]:
        """See `Task`."""
        if split not in self._made:
            self._made |= _make_in_fixed_order(self._generator, split)
        return self._made[split]


def _make_in_fixed_order(generator: str, last: Split) -> dict[Split, tuple[Question, ...]]:
    """Every split up to `last`, made by a process of its own.

    Raises:
        SpecError: the package fails to make them.
    """
    command = child_command("hydrometer.tasks.reasoning_gym", "tell_splits", generator, last)
    made = subprocess.run(command, capture_output=True, env=os.environ | FIXED_ORDER, check=False)
    if made.returncode:
        said = made.stderr.decode(errors="replace").strip().splitlines()
        raise SpecError(
            f"The package reasoning-gym made no questions of '{generator}': {said[-1] if said else made.returncode}."
        )
    splits = list(SIZES)[: list(SIZES).index(last) + 1]
    return dict(zip(splits, map(decode_questions, made.stdout.splitlines()), strict=True))


def tell_splits(generator: str, last: Split) -> None:
    """Write every split up to `last` to stdout, a line each; what the package prints goes to stderr."""
    made: list[tuple[Question, ...]] = []
    with contextlib.redirect_stdout(sys.stderr):
        for split in SIZES:
            made.append(_make_split(generator, split, {question.prompt for before in made for question in before}))
            if split == last:
                break
    for questions in made:
        sys.stdout.buffer.write(encode_questions(questions))


def _make_split(generator: str, split: Split, seen: set[tuple[Message, ...]]) -> tuple[Question, ...]:
    """Questions that ask something else than those `seen`."""
    found: list[Question] = []
    dataset = build_dataset(generator, split)
    for index in range(SIZES[split] * _PATIENCE):
        entry = _make_item(dataset, index)
        problem = entry["question"].strip()
        prompt = (Message("user", _PROMPT.format(question=problem)),)
        if prompt in seen or not str(entry["answer"]).strip():
            continue
        seen.add(prompt)
        name, answer = f"reasoning_gym:{generator}", str(entry["answer"])
        wrong = _find_wrong_answer(dataset, index, entry)
        found.append(Question(f"{split}-{index:05d}", name, prompt, answer, wrong_answer=wrong, problem=problem))
        if len(found) == SIZES[split]:
            break
    return tuple(found)


def load_reasoning_gym(generator: str) -> ReasoningGymQuestions:
    """The task of this name.

    Raises:
        SpecError: the package is not installed, or no name is given.
        UnknownNameError: the package has no such task.
    """
    if not generator:
        raise SpecError("'reasoning_gym' needs the name of a task, e.g. reasoning_gym:chain_sum")
    known = import_factory().DATASETS
    if generator not in known:
        raise UnknownNameError("reasoning-gym task", generator, known)
    return ReasoningGymQuestions(generator)


def import_factory() -> ModuleType:
    """`reasoning_gym.factory`: an extra, so that neither a run nor the type checker counts on it.

    Raises:
        SpecError: it is not installed.
    """
    try:
        return importlib.import_module("reasoning_gym.factory")
    except ImportError as error:
        raise SpecError(
            f"Tasks 'reasoning_gym:NAME' need the package reasoning-gym ({error}).\n"
            "Install it: pip install hydrometer[reasoning-gym]"
        ) from error


@lru_cache(maxsize=8)
def build_dataset(generator: str, split: Split) -> Any:
    """The package's dataset behind one split; item `index` depends on the split and the index alone."""
    return import_factory().create_dataset(generator, seed=_SEEDS[split], size=SIZES[split] * _PATIENCE + _WRONG_TRIES)


@lru_cache(maxsize=4096)
def find_entry(question: Question) -> tuple[Any, dict[str, Any]]:
    """The dataset and the item that a question was made from.

    Raises:
        SpecError: the question is of another task, or the package makes another one now.
    """
    head, _, generator = question.task.partition(":")
    split, _, index = question.question_id.partition("-")
    if head != "reasoning_gym" or split not in SIZES:
        raise SpecError(f"The verifier reasoning_gym scores tasks reasoning_gym:NAME only, not '{question.task}'.")
    dataset = build_dataset(generator, split)
    entry = _make_item(dataset, int(index))
    if entry["question"].strip() != question.problem:
        raise SpecError(
            f"reasoning-gym makes another question of '{generator}' at index {int(index)} than the one that was asked: "
            "the task is not the same in every process, or the package has changed."
        )
    return dataset, entry


def _make_item(dataset: Any, index: int) -> dict[str, Any]:
    random.seed(0)
    return dataset[index]


def _find_wrong_answer(dataset: Any, index: int, entry: dict[str, Any]) -> str | None:
    """The answer of one of the next items, where the scorer gives it nothing here."""
    for step in range(1, _WRONG_TRIES + 1):
        other = str(_make_item(dataset, index + step)["answer"])
        if other.strip() and float(dataset.score_answer(other, entry)) <= 0.01:
            return other
    return None
