"""`reasoning_gym:NAME`: questions made by the package reasoning-gym, which also scores them.

Each split has a seed of its own. A question of the test split that also came up in `diagnose`, or of the train split
that came up in either, is left out, so that splits are disjoint in what they ask and not only in their seeds.
"""

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Any

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks.rows import Split
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
        for earlier in SIZES:
            if earlier not in self._made:
                self._made[earlier] = self._make(earlier)
            if earlier == split:
                break
        return self._made[split]

    def _make(self, split: Split) -> tuple[Question, ...]:
        seen = {question.prompt for made in self._made.values() for question in made}
        found: list[Question] = []
        dataset = build_dataset(self._generator, split)
        for index in range(SIZES[split] * _PATIENCE):
            entry = dataset[index]
            problem = entry["question"].strip()
            prompt = (Message("user", _PROMPT.format(question=problem)),)
            if prompt in seen or not str(entry["answer"]).strip():
                continue
            seen.add(prompt)
            wrong = _find_wrong_answer(dataset, index, entry)
            found.append(
                Question(
                    f"{split}-{index:05d}",
                    self.name,
                    prompt,
                    str(entry["answer"]),
                    wrong_answer=wrong,
                    problem=problem,
                )
            )
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
        SpecError: the question is of another task.
    """
    head, _, generator = question.task.partition(":")
    split, _, index = question.question_id.partition("-")
    if head != "reasoning_gym" or split not in SIZES:
        raise SpecError(f"The verifier reasoning_gym scores tasks reasoning_gym:NAME only, not '{question.task}'.")
    dataset = build_dataset(generator, split)
    return dataset, dataset[int(index)]


def _find_wrong_answer(dataset: Any, index: int, entry: dict[str, Any]) -> str | None:
    """The answer of one of the next items, where the scorer gives it nothing here."""
    for step in range(1, _WRONG_TRIES + 1):
        other = str(dataset[index + step]["answer"])
        if other.strip() and float(dataset.score_answer(other, entry)) <= 0.01:
            return other
    return None
