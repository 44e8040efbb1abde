"""Losses that see sampled tokens: enumeration of every token, or every response, gives the direction."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import ESTIMATORS, PROPERTY, Pair, pairs, random_pair
from torch import Tensor

from hydrometer import objectives

ONE = torch.ones(1, 1, dtype=torch.bool)


def expected_update(spec: str, student: Tensor, teacher: Tensor | None, **advantages: Tensor) -> Tensor:
    """Sum over tokens y of p(y) times -d loss(y) / d student_logits, at one position."""
    probs, total = student.softmax(-1), torch.zeros_like(student)
    for token in range(len(student)):
        if probs[token] == 0.0:
            continue
        logits = student.clone().requires_grad_()
        loss = objectives.parse(spec).loss(
            logits.view(1, 1, -1),
            None if teacher is None else teacher.view(1, 1, -1),
            response_mask=ONE,
            tokens=torch.tensor([[token]]),
            **{name: values[token].view(1) for name, values in advantages.items()},
        )
        loss.backward()
        assert logits.grad is not None
        total -= probs[token] * logits.grad
    return total


@PROPERTY
@given(pair=pairs(shape=()), spec=st.sampled_from(ESTIMATORS))
def test_the_mean_gradient_over_sampled_tokens_is_the_direction(pair: Pair, spec: str) -> None:
    direction = objectives.parse(spec).direction(pair.student, pair.teacher)
    torch.testing.assert_close(expected_update(spec, *pair), direction, rtol=1e-8, atol=1e-10)


def test_estimators_follow_the_divergence_their_key_names() -> None:
    student, teacher = random_pair(11, shape=())
    for spec, target in {"sampled_token": "reverse_kl", "k2": "reverse_kl", "k3": "forward_kl"}.items():
        direction = objectives.make(target).direction(student, teacher)
        assert objectives.parse(spec).direction_key == target
        torch.testing.assert_close(expected_update(spec, student, teacher), direction, rtol=1e-9, atol=1e-12)
    assert expected_update("k1_loss", student, teacher).abs().max() < 1e-15
    assert (objectives.make("k1_loss").direction(student, teacher) == 0.0).all()


@pytest.mark.parametrize("spec", ["sampled_token", "k1_loss", "k3"])
def test_sampled_values_estimate_the_reverse_kl(spec: str) -> None:
    student, teacher = random_pair(12, shape=())
    probs = student.softmax(-1)
    values = torch.stack(
        [
            objectives.parse(spec).loss(
                student.view(1, 1, -1), teacher.view(1, 1, -1), response_mask=ONE, tokens=torch.tensor([[token]])
            )
            for token in range(6)
        ]
    )
    kl = (probs * (student.log_softmax(-1) - teacher.log_softmax(-1))).sum()
    torch.testing.assert_close((probs * values).sum(), kl)


@PROPERTY
@given(seed=st.integers(0, 10**6), baseline=st.sampled_from([0.0, 0.4, 0.9]))
def test_dr_grpo_follows_the_success_rates_under_any_baseline(seed: int, baseline: float) -> None:
    student, rates = random_pair(seed, shape=())
    rates = rates.sigmoid()
    direction = objectives.make("dr_grpo").direction(student, None, success_rates=rates)
    probs = student.softmax(-1)
    torch.testing.assert_close(direction, probs * (rates - (probs * rates).sum()))
    update = expected_update("dr_grpo", student, None, advantages=rates - baseline)
    torch.testing.assert_close(update, direction, rtol=1e-9, atol=1e-12)


END, LONGEST = 2, 3


def responses() -> Iterator[tuple[int, ...]]:
    """Every response over three tokens that stops at END or at LONGEST tokens."""
    for length in range(1, LONGEST + 1):
        for tokens in itertools.product(range(3), repeat=length):
            stops = tokens[-1] == END or length == LONGEST
            if stops and END not in tokens[:-1]:
                yield tokens


def test_minillm_on_a_tree_of_responses_follows_the_mean_reward_to_go() -> None:
    """Logits depend on the prefix; the expected gradient at each prefix is its probability times its direction."""
    generator = torch.Generator().manual_seed(3)
    prefixes = {tokens[:i] for tokens in responses() for i in range(len(tokens))}
    student, teacher = (
        {prefix: torch.randn(3, generator=generator, dtype=torch.float64) for prefix in sorted(prefixes)}
        for _ in range(2)
    )
    objective = objectives.make("minillm")

    def reward(prefix: tuple[int, ...], token: int) -> float:
        """Mean over what the student does after `token` of the log-ratios from here to the end."""
        here = float((teacher[prefix].log_softmax(-1) - student[prefix].log_softmax(-1))[token])
        after = (*prefix, token)
        if after not in prefixes:
            return here
        probs = student[after].softmax(-1)
        return here + sum(float(probs[k]) * reward(after, k) for k in range(3))

    totals = {prefix: torch.zeros(3, dtype=torch.float64) for prefix in prefixes}
    reached = dict.fromkeys(prefixes, 0.0)
    for tokens in responses():
        length = len(tokens)
        path = [tokens[:i] for i in range(length)]
        probability = float(torch.stack([student[p].softmax(-1)[t] for p, t in zip(path, tokens, strict=True)]).prod())
        padding = torch.full((LONGEST - length, 3), torch.nan, dtype=torch.float64)
        logits = torch.cat([torch.stack([student[p] for p in path]), padding])[None].requires_grad_()
        mask = (torch.arange(LONGEST) < length)[None]
        ids = torch.tensor([*tokens, *[-100] * (LONGEST - length)])[None]
        teacher_logits = torch.cat([torch.stack([teacher[p] for p in path]), padding])[None]
        objective.loss(logits, teacher_logits, response_mask=mask, tokens=ids).backward()
        assert logits.grad is not None
        for index, prefix in enumerate(path):
            totals[prefix] -= probability * length * logits.grad[0, index]
            reached[prefix] += probability
    for prefix in prefixes:
        to_go = torch.tensor([reward(prefix, token) for token in range(3)], dtype=torch.float64)
        direction = objective.direction(student[prefix], teacher[prefix], reward_to_go=to_go)
        torch.testing.assert_close(totals[prefix], reached[prefix] * direction, rtol=1e-9, atol=1e-12)
        field = objective.field(student[prefix].log_softmax(-1), None, reward_to_go=to_go)
        assert torch.equal(field, to_go)


def test_minillm_skips_masked_tokens_in_the_middle_of_a_response() -> None:
    """A token outside the mask (a tool's output, say) lends no reward."""
    pair = random_pair(2, shape=(1, 3))
    tokens, mask = torch.tensor([[1, 4, 0]]), torch.tensor([[True, False, True]])
    ratio = (pair.teacher.log_softmax(-1) - pair.student.log_softmax(-1)).gather(-1, tokens[..., None])[0, :, 0]
    loss = objectives.make("minillm").loss(pair.student, pair.teacher, response_mask=mask, tokens=tokens)
    torch.testing.assert_close(loss, -((ratio[0] + ratio[2]) + ratio[2]) / 2)


def test_group_advantages_only_subtract_the_mean_of_the_group() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.25, 1.0])
    groups = torch.tensor([7, -2, 7, 7, 40, -2])
    expected = torch.tensor([1 / 3, -0.5, -2 / 3, 1 / 3, 0.0, 0.5])
    torch.testing.assert_close(objectives.group_advantages(rewards, groups), expected)


def dr_grpo_update(student: Tensor, tokens: Tensor, rewards: Tensor, lengths: Tensor | None) -> Tensor:
    """Update at a shared first position; `lengths` adds the length normalisation that Dr. GRPO drops."""
    count = len(tokens)
    logits = student.clone().requires_grad_()
    objectives.make("dr_grpo").loss(
        logits.expand(count, 1, -1),
        None,
        response_mask=torch.ones(count, 1, dtype=torch.bool),
        tokens=tokens[:, None],
        advantages=objectives.group_advantages(rewards, torch.zeros(count, dtype=torch.int64)),
        loss_weights=None if lengths is None else 1.0 / lengths[:, None],
    ).backward()
    assert logits.grad is not None
    return -logits.grad


def test_dr_grpo_nears_the_ideal_direction_with_rollouts_but_not_with_length_normalisation() -> None:
    student = torch.tensor([0.4, 0.1, -0.3, 0.0]).double()
    rates, lengths = torch.tensor([0.9, 0.6, 0.3, 0.1]).double(), torch.tensor([2.0, 20.0, 3.0, 30.0]).double()
    ideal = objectives.make("dr_grpo").direction(student, None, success_rates=rates)
    generator = torch.Generator().manual_seed(0)

    def mean_cosine(rollouts: int, repeats: int, normalise: bool) -> float:
        cosines = []
        for _ in range(repeats):
            tokens = torch.multinomial(student.softmax(-1), rollouts, replacement=True, generator=generator)
            rewards = torch.bernoulli(rates[tokens], generator=generator)
            update = dr_grpo_update(student, tokens, rewards, lengths[tokens] if normalise else None)
            cosines.append(torch.nn.functional.cosine_similarity(update, ideal, dim=0))
        return float(torch.stack(cosines).mean())

    few, more, many = mean_cosine(16, 60, False), mean_cosine(64, 60, False), mean_cosine(100_000, 1, False)
    assert few < more < many
    assert many > 0.999
    assert mean_cosine(100_000, 1, True) < 0.98
