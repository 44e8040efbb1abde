"""Tokens that cannot be produced, and probabilities that underflow."""

import pytest
import torch
from objective_cases import ESTIMATORS, EXACT, centred, random_pair

from hydrometer import objectives

NEEDS_NOTHING_ELSE = (*EXACT, *ESTIMATORS)


@pytest.mark.parametrize("spec", NEEDS_NOTHING_ELSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_eighty_give_finite_numbers(spec: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((torch.randint(0, 3, (4, 3, 6), generator=generator) - 1).to(dtype) * 80.0 for _ in range(2))
    objective = objectives.parse(spec)
    student_logprobs, teacher_logprobs = student.log_softmax(-1), teacher.log_softmax(-1)
    field = objective.field(student_logprobs, teacher_logprobs)
    assert field.isfinite().all()
    assert centred(field, student_logprobs).isfinite().all()
    assert objective.direction(student, teacher).isfinite().all()
    student.requires_grad_()
    tokens = torch.randint(0, 6, (4, 3), generator=generator)
    loss = objective.loss(student, teacher, response_mask=torch.ones(4, 3, dtype=torch.bool), tokens=tokens)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize("spec", EXACT)
@pytest.mark.parametrize("teacher_too", [False, True])
def test_an_unreachable_token_contributes_exactly_nothing(spec: str, teacher_too: bool) -> None:
    """As if it were not in the vocabulary of the sums, whatever the teacher says of it (also -inf)."""
    pair, objective = random_pair(7, vocab=7, masked=2), objectives.parse(spec)
    hidden = pair.student.isneginf()
    teacher = pair.teacher.masked_fill(hidden, -torch.inf) if teacher_too else pair.teacher
    student_logprobs, teacher_logprobs = pair.student.log_softmax(-1), teacher.log_softmax(-1)
    field = objective.field(student_logprobs, teacher_logprobs)
    direction = objective.direction(pair.student, teacher)
    assert field.isfinite().all()
    assert (field[hidden] == 0.0).all() and (direction[hidden] == 0.0).all()
    torch.testing.assert_close(centred(field, student_logprobs), direction, rtol=1e-8, atol=1e-10)
    logits = pair.student.clone().requires_grad_()
    loss = objective.loss(logits, teacher, response_mask=torch.ones(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None and (logits.grad[hidden] == 0.0).all()
    torch.testing.assert_close(-6 * logits.grad, direction, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("spec", FULL := ("reverse_kl", "forward_kl", "jsd:beta=0.3", "k3"))
def test_dropping_an_unreachable_token_of_both_changes_nothing(spec: str) -> None:
    pair, objective = random_pair(8, vocab=6, shape=(3,)), objectives.parse(spec)
    wider = [torch.cat([x, torch.full((3, 1), -torch.inf, dtype=x.dtype)], -1) for x in pair]
    torch.testing.assert_close(objective.direction(*wider)[:, :6], objective.direction(*pair))


def test_references_and_minillm_leave_unreachable_tokens_out_too() -> None:
    student = torch.tensor([0.3, -torch.inf, 1.0]).double()
    unknown = torch.tensor([0.2, torch.nan, 0.6]).double()
    for kind, inputs in (("dr_grpo", "success_rates"), ("minillm", "reward_to_go")):
        objective = objectives.make(kind)
        direction = objective.direction(student, student, **{inputs: unknown})
        assert direction[1] == 0.0
        torch.testing.assert_close(direction[2], -direction[0])
        assert objective.field(student.log_softmax(-1), None, **{inputs: unknown})[1] == 0.0


def test_forward_kl_keeps_the_pull_on_a_token_whose_probability_underflows() -> None:
    """p = e^-200 is 0 in float32: the direction is still q - p; the field times p is, too, in float64."""
    student, teacher = torch.tensor([0.0, -200.0]), torch.tensor([0.0, 0.0])
    objective = objectives.make("forward_kl")
    torch.testing.assert_close(objective.direction(student, teacher), torch.tensor([-0.5, 0.5]))
    logprobs = student.double().log_softmax(-1)
    field = objective.field(logprobs, teacher.double().log_softmax(-1))
    torch.testing.assert_close(centred(field, logprobs), torch.tensor([-0.5, 0.5]).double())


def test_a_missing_input_is_named() -> None:
    pair, mask = random_pair(1), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(TypeError, match="'dr_grpo' needs success_rates"):
        objectives.make("dr_grpo").direction(pair.student, None)
    with pytest.raises(TypeError, match="'minillm' needs reward_to_go"):
        objectives.make("minillm").direction(*pair)
    with pytest.raises(TypeError, match="'k2' needs tokens"):
        objectives.make("k2").loss(*pair, response_mask=mask)
    with pytest.raises(TypeError, match="'reverse_kl' needs teacher_logits"):
        objectives.make("reverse_kl").loss(pair.student, None, response_mask=mask)
    with pytest.raises(TypeError, match="'dr_grpo' needs advantages"):
        tokens = torch.zeros(2, 3, dtype=torch.int64)
        objectives.make("dr_grpo").loss(pair.student, None, response_mask=mask, tokens=tokens)
