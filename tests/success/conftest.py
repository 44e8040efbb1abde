"""A model over four tokens whose success probabilities are known in closed form, and a short way to write rollouts."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hydrometer.types import Rollout

EOS = 0


class TabularModel:
    """Next-token probabilities depend on position and token sum modulo 3; correct = ended, with sum 1 modulo 3."""

    max_tokens = 6

    def __init__(self, seed: int = 5):
        rng = np.random.default_rng(seed)
        self.table = rng.dirichlet((0.7, 1.5, 1.0, 0.5), size=(self.max_tokens, 3))

    def probabilities(self, prefix: tuple[int, ...]) -> np.ndarray:
        return self.table[len(prefix), sum(prefix) % 3]

    def next_logprobs(self, prefixes: list[tuple[int, ...]]) -> np.ndarray:
        return np.log(np.stack([self.probabilities(prefix) for prefix in prefixes]))

    def verify(self, token_ids: tuple[int, ...], truncated: bool) -> bool:
        return not truncated and sum(token_ids) % 3 == 1

    def finished(self, prefix: tuple[int, ...]) -> bool:
        return len(prefix) == self.max_tokens or prefix[-1:] == (EOS,)

    def success(self, prefix: tuple[int, ...]) -> float:
        """Exact, by backward recursion over (position, sum modulo 3)."""

        @cache
        def onward(position: int, residue: int) -> float:
            if position == self.max_tokens:
                return 0.0
            row = self.table[position, residue]
            ended = row[EOS] * (residue == 1)
            return ended + sum(row[token] * onward(position + 1, (residue + token) % 3) for token in (1, 2, 3))

        if self.finished(prefix):
            return float(self.verify(prefix, prefix[-1:] != (EOS,)))
        return onward(len(prefix), sum(prefix) % 3)

    def sample(self, rng: np.random.Generator, prefix: tuple[int, ...] = ()) -> tuple[int, ...]:
        while not self.finished(prefix):
            prefix = (*prefix, int(rng.choice(4, p=self.probabilities(prefix))))
        return prefix

    def rollout(self, rng: np.random.Generator, rollout_id: int, kind: str, prefix: tuple[int, ...] = ()) -> Rollout:
        token_ids = self.sample(rng, prefix)
        truncated = token_ids[-1] != EOS
        correct = self.verify(token_ids, truncated)
        return make_rollout(rollout_id, kind, token_ids, correct, forced_tokens=len(prefix))


def make_rollout(
    rollout_id: int,
    kind: str,
    token_ids: tuple[int, ...],
    correct: bool = False,
    *,
    forced_tokens: int = 0,
    question_id: str = "q",
    model: str = "student",
) -> Rollout:
    return Rollout(
        question_id=question_id,
        rollout_id=rollout_id,
        kind=kind,  # pyright: ignore[reportArgumentType]
        token_ids=tuple(token_ids),
        text="",
        score=float(correct),
        correct=correct,
        truncated=False,
        forced_tokens=forced_tokens,
        model=model,
    )


@pytest.fixture(scope="session")
def model() -> TabularModel:
    return TabularModel()


@pytest.fixture(scope="session")
def rollout() -> Callable[..., Rollout]:
    return make_rollout
