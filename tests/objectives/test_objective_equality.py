"""Where student and teacher agree: who is stationary, who is not, and what the biased form adds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import EXACT, PROPERTY, Pair, cells, pairs, random_pair
from torch import Tensor

from hydrometer import objectives

VOCAB = 6


@pytest.mark.parametrize("spec", (*EXACT, "sampled_token", "k1_loss", "k2", "k3", "minillm"))
@pytest.mark.parametrize("masked", [0, 1])
def test_no_direction_at_equality_exactly_for_those_that_claim_it(spec: str, masked: int) -> None:
    student, _ = random_pair(21, vocab=VOCAB, masked=masked)
    objective = objectives.parse(spec)
    # The contract's reading of minillm: equal from here to the end, so that every reward to go is 0.
    direction = objective.direction(student, student.clone(), reward_to_go=torch.zeros_like(student))
    if objective.zero_at_equality:
        assert direction.abs().max() < 1e-15
    else:
        assert (direction.norm(dim=-1) > 1e-3).all()


@pytest.mark.parametrize("spec", EXACT)
def test_the_gradient_too_is_zero_at_equality(spec: str) -> None:
    student, _ = random_pair(22, vocab=VOCAB)
    objective, logits = objectives.parse(spec), student.clone().requires_grad_()
    loss = objective.loss(logits, student, response_mask=torch.ones(2, 3, dtype=torch.bool))
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad.abs().max() < 1e-15) == objective.zero_at_equality
    assert abs(loss.item()) < 1e-14


def test_only_the_unnormalised_forms_and_the_references_have_a_direction_at_equality() -> None:
    unclaimed = {spec for spec in (*EXACT, *objectives.KIND_NAMES) if not objectives.parse(spec).zero_at_equality}
    biased = {s for s in cells(1, 2, 4) if "unnormalised" in s and "symmetric_difference" not in s}
    assert unclaimed == biased | {"dr_grpo", "sft"}
    assert {s for s in objectives.KIND_NAMES if objectives.parse(s).reference} == {"dr_grpo", "sft"}
    assert {s for s in objectives.KIND_NAMES if objectives.parse(s).training_only} == {"sft"}


def mass_gradient(student: Tensor, members: Tensor) -> Tensor:
    """Gradient of the student's mass on `members` in its logits."""
    logits = student.clone().requires_grad_()
    (logits.softmax(-1) * members).sum().backward()
    assert logits.grad is not None
    return logits.grad


@PROPERTY
@given(pair=pairs(shape=(3,), least_vocab=4), k=st.integers(1, 3))
def test_the_biased_form_adds_the_gradient_of_the_students_mass(pair: Pair, k: int) -> None:
    biased, unbiased = (
        objectives.make("topk_reverse_kl", k=k, form=form).direction(*pair)
        for form in ("unnormalised", "stop_gradient")
    )
    kept = pair.student.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    members = torch.zeros_like(pair.student).scatter(-1, kept, 1.0)
    torch.testing.assert_close(biased - unbiased, -mass_gradient(pair.student, members), rtol=1e-8, atol=1e-12)
    probs = pair.student.softmax(-1)
    mass = (probs * members).sum(-1, keepdim=True)
    torch.testing.assert_close(biased - unbiased, -probs * (members - mass), rtol=1e-8, atol=1e-12)


def test_the_biased_form_pushes_down_tokens_that_the_teacher_prefers() -> None:
    """Coefficient of grad log p_v under descent, on tokens with p < q < e p."""
    p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]).double(), torch.tensor([0.5, 0.35, 0.1, 0.05]).double()
    log_p, log_q = p.log(), q.log()
    between = (p < q) & (q < math.e * p)
    assert between.tolist() == [True, True, False, False]
    descent = {
        form: -objectives.make("topk_reverse_kl", k=2, form=form).field(log_p, log_q)
        for form in ("unnormalised", "stop_gradient")
    }
    assert (descent["unnormalised"][between] > 0).all()
    assert (descent["stop_gradient"][between] < 0).all()


def test_descending_the_biased_form_from_equality_leaks_mass_and_the_others_stay() -> None:
    teacher = random_pair(30, vocab=50, shape=()).teacher
    start = teacher.softmax(-1).topk(5).values.sum()
    for form in ("unnormalised", "stop_gradient", "renormalised", "tail_bin"):
        objective, student = objectives.make("topk_reverse_kl", k=5, form=form), teacher.clone()
        for _ in range(200):
            student = student + objective.direction(student, teacher)
        held = student.softmax(-1).topk(5).values.sum()
        if form == "unnormalised":
            assert held < start - 0.2
        else:
            torch.testing.assert_close(held, start)


def test_reverse_kl_to_several_teachers_ends_at_their_geometric_mean() -> None:
    teachers = random_pair(31, vocab=5, shape=(3,)).teacher
    student, objective = torch.zeros(5, dtype=torch.float64), objectives.make("reverse_kl")
    for _ in range(5000):
        student = student + objective.direction(student.expand(3, -1), teachers).mean(0)
    geometric = teachers.log_softmax(-1).mean(0).softmax(-1)
    arithmetic = teachers.softmax(-1).mean(0)
    assert (student.softmax(-1) - geometric).abs().sum() < 1e-6
    assert (student.softmax(-1) - arithmetic).abs().sum() > 0.05


def test_forward_kl_to_several_teachers_ends_at_their_arithmetic_mean() -> None:
    teachers = random_pair(31, vocab=5, shape=(3,)).teacher
    student, objective = torch.zeros(5, dtype=torch.float64), objectives.make("forward_kl")
    for _ in range(3000):
        student = student + objective.direction(student.expand(3, -1), teachers).mean(0)
    assert (student.softmax(-1) - teachers.softmax(-1).mean(0)).abs().sum() < 1e-6


@PROPERTY
@given(pair=pairs(shape=(3,), least_vocab=4), support=st.sampled_from(["student", "teacher", "union"]))
def test_detaching_the_log_ratio_changes_nothing_once_renormalised(pair: Pair, support: str) -> None:
    objective = objectives.make("topk_reverse_kl", k=3, support=support, form="renormalised")
    tops = [x.sort(dim=-1, descending=True, stable=True).indices[..., :3] for x in pair]
    chosen = {"student": tops[:1], "teacher": tops[1:], "union": tops}[support]
    members = torch.zeros_like(pair.student, dtype=torch.bool)
    for ids in chosen:
        members = members.scatter(-1, ids, True)
    members &= ~pair.student.isneginf()
    reachable = members.any(-1)
    logits = pair.student[reachable].clone().requires_grad_()
    teacher, members = pair.teacher[reachable], members[reachable]
    student = logits.masked_fill(~members, -1e9).log_softmax(-1)
    ratio = (student - teacher.masked_fill(~members, -1e9).log_softmax(-1)).detach().masked_fill(~members, 0.0)
    (student.exp() * ratio).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(
        -logits.grad, objective.direction(pair.student[reachable], teacher), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("k", [VOCAB, VOCAB + 1, 10**6])
@pytest.mark.parametrize("form", ["unnormalised", "stop_gradient", "renormalised", "tail_bin"])
@pytest.mark.parametrize("support", ["student", "teacher", "union", "intersection", "symmetric_difference"])
@pytest.mark.parametrize("masked", [0, 2])
def test_k_of_the_whole_vocabulary_is_the_full_reverse_kl(k: int, form: str, support: str, masked: int) -> None:
    pair = random_pair(40, vocab=VOCAB, masked=masked)
    direction = objectives.make("topk_reverse_kl", k=k, form=form, support=support).direction(*pair)
    full = objectives.make("reverse_kl").direction(*pair)
    if support == "symmetric_difference":
        full = torch.zeros_like(full)
    torch.testing.assert_close(direction, full, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["unnormalised", "stop_gradient", "renormalised", "tail_bin"])
def test_k_of_the_whole_vocabulary_has_the_value_of_the_reverse_kl(form: str) -> None:
    pair, mask = random_pair(41, vocab=VOCAB), torch.ones(2, 3, dtype=torch.bool)
    loss = objectives.make("topk_reverse_kl", k=VOCAB, form=form).loss(*pair, response_mask=mask)
    torch.testing.assert_close(loss, objectives.make("reverse_kl").loss(*pair, response_mask=mask))
