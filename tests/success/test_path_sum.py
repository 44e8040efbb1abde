"""The performance-difference identity on enumerated models, and what two planted mistakes do to it."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from hydrometer.errors import UserError
from hydrometer.success.enumeration import Limits, PathSum, enumerate_path_sum, enumerate_success
from hydrometer.success.tree import PrefixTree
from hydrometer.types import Rollout

EOS = 0
LENGTH = 5
LIMITS = Limits(eos_ids=frozenset({EOS}), max_tokens=LENGTH)
Model = Callable[[tuple[int, ...]], np.ndarray]


def build_model(seed: int, *, flatness: float = 1.0) -> Model:
    """Any function of the whole prefix."""

    def probabilities(prefix: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([seed, len(prefix), *prefix])
        weights = np.exp(rng.normal(size=4) / flatness)
        return weights / weights.sum()

    return probabilities


def logprobs_of(model: Model) -> Callable[[list[tuple[int, ...]]], np.ndarray]:
    return lambda prefixes: np.log(np.stack([model(prefix) for prefix in prefixes]))


def verify(ids: tuple[int, ...], truncated: bool) -> bool:
    return not truncated and sum(ids) % 3 == 1


def expected(student: Model, teacher: Model, weighed_by: Model | None = None) -> PathSum:
    weigh = None if weighed_by is None else logprobs_of(weighed_by)
    return enumerate_path_sum(logprobs_of(student), logprobs_of(teacher), verify, LIMITS, weighed_by=weigh)


@pytest.mark.parametrize("seed", range(5))
def test_the_path_sum_is_the_difference_of_the_values(seed: int) -> None:
    student, teacher = build_model(seed), build_model(seed + 100)
    found = expected(student, teacher)
    assert abs(found.path_sum - (found.teacher_value - found.student_value)) < 1e-12
    exact = [
        enumerate_success(logprobs_of(model), verify, Limits(eos_ids=frozenset({EOS}), max_tokens=LENGTH, bound=1e-10))
        for model in (student, teacher)
    ]
    assert found.student_value == pytest.approx(exact[0].low, abs=1e-9)
    assert found.teacher_value == pytest.approx(exact[1].low, abs=1e-9)
    assert abs(found.path_sum) > 1e-3


def test_the_path_sum_by_plain_enumeration_of_the_student_s_responses() -> None:
    """Every response of the student, every node of it, every token there, the teacher's success by brute force."""
    student, teacher = build_model(1), build_model(101)

    def onward(model: Model, ids: tuple[int, ...]) -> float:
        if ids[-1:] == (EOS,) or len(ids) == LENGTH:
            return float(verify(ids, ids[-1:] != (EOS,)))
        return sum(p * onward(model, (*ids, token)) for token, p in enumerate(model(ids)))

    total = 0.0
    for length in range(1, LENGTH + 1):
        for ids in product(range(4), repeat=length):
            if EOS in ids[:-1] or (length < LENGTH and ids[-1] != EOS):
                continue
            chance = np.prod([student(ids[:t])[ids[t]] for t in range(length)])
            for t in range(length):
                gaps = teacher(ids[:t]) - student(ids[:t])
                total += chance * sum(gaps[v] * onward(teacher, (*ids[:t], v)) for v in range(4))
    assert expected(student, teacher).path_sum == pytest.approx(total, abs=1e-12)


def test_the_student_s_own_continuations_do_not_satisfy_it() -> None:
    """First order only: S of the student in place of the teacher's."""
    student, teacher = build_model(3), build_model(103)
    found = expected(student, teacher)
    mixed = build_mixture(student, teacher, 1e-4)
    slope = (expected(student, mixed).teacher_value - found.student_value) / 1e-4
    assert abs(slope - found.path_sum) > 0.01


def build_mixture(first: Model, second: Model, share: float) -> Model:
    return lambda prefix: (1.0 - share) * first(prefix) + share * second(prefix)


@pytest.mark.parametrize("seed", range(3))
def test_p_at_another_temperature_breaks_it(seed: int) -> None:
    student, teacher = build_model(seed), build_model(seed + 100)
    found = expected(student, teacher, weighed_by=build_model(seed, flatness=3.0))
    assert abs(found.path_sum - (found.teacher_value - found.student_value)) > 0.005, "it is 1e-12 where p is right"


def test_forced_rollouts_counted_for_ancestors_break_it() -> None:
    """Counted rightly, the rates of a tree give the path sum within its noise; a forced rollout that also counts where
    its prefix was chosen for it does not."""
    student, teacher = build_model(4, flatness=0.5), build_model(104, flatness=0.5)
    truth = expected(student, teacher)
    rng = np.random.default_rng(0)
    right, wrong = [], []
    for _ in range(60):
        path = rollout(draw(student, rng), 0, "path")
        tree, counts = PrefixTree(path.question_id), {}
        tree.add_path(path)
        number = 1
        for position in reversed(range(len(path.token_ids))):
            for token in range(4):
                for _ in range(30):
                    prefix = (*path.token_ids[:position], token)
                    branch = rollout(draw(teacher, rng, prefix), number, "branch", len(prefix))
                    tree.count(branch)
                    number += 1
                    for place in range(position + 1):  # the mistake
                        if branch.token_ids[:place] == path.token_ids[:place] and place < len(branch.token_ids):
                            counts.setdefault((place, branch.token_ids[place]), []).append(branch.correct)
        sums = np.zeros(2)
        for position in range(len(path.token_ids)):
            gaps = teacher(path.token_ids[:position]) - student(path.token_ids[:position])
            rates = {token: seen.correct.mean() for token, seen in tree.outcomes(0, position).items()}
            sums += (
                sum(gaps[v] * rates[v] for v in range(4)),
                sum(gaps[v] * np.mean(counts[position, v]) for v in range(4)),
            )
        right.append(sums[0])
        wrong.append(sums[1])
    error = np.std(right) / np.sqrt(len(right))
    difference = truth.teacher_value - truth.student_value
    assert abs(np.mean(right) - difference) < 3 * error
    assert abs(np.mean(np.subtract(wrong, right))) > 0.05


def draw(model: Model, rng: np.random.Generator, prefix: tuple[int, ...] = ()) -> tuple[int, ...]:
    while prefix[-1:] != (EOS,) and len(prefix) < LENGTH:
        prefix = (*prefix, int(rng.choice(4, p=model(prefix))))
    return prefix


def rollout(ids: tuple[int, ...], number: int, kind: str, forced: int = 0) -> Rollout:
    correct = verify(ids, ids[-1] != EOS)
    return Rollout("q", number, kind, ids, "", float(correct), correct, False, forced_tokens=forced)  # type: ignore[arg-type]


def test_too_many_prefixes_are_refused() -> None:
    few = Limits(eos_ids=frozenset({EOS}), max_tokens=LENGTH, max_expansions=50)
    with pytest.raises(UserError, match="more than 50 prefixes"):
        enumerate_path_sum(logprobs_of(build_model(0)), logprobs_of(build_model(1)), verify, few)
