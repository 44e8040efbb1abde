"""The gradient of every loss is the direction it is diagnosed by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import EXACT, FULL_VOCABULARY, PROPERTY, Pair, cells, centred, pairs, random_pair
from torch import Tensor

from hydrometer import objectives

RAGGED = torch.tensor([[True, True, False], [True, False, False], [False, False, False], [True, True, True]])


def update_of(spec: str, pair: Pair, mask: Tensor, **inputs: Tensor) -> Tensor:
    """-n d loss / d student_logits by autograd."""
    student = pair.student.clone().requires_grad_()
    objectives.parse(spec).loss(student, pair.teacher, response_mask=mask, **inputs).backward()
    assert student.grad is not None
    return -mask.sum() * student.grad


@pytest.mark.parametrize("spec", EXACT)
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("masked", [0, 2])
def test_autograd_of_the_loss_is_the_direction_on_ragged_batches(spec: str, rounded: bool, masked: int) -> None:
    pair = random_pair(len(spec), shape=(4, 3), rounded=rounded, masked=masked)
    direction = objectives.parse(spec).direction(pair.student, pair.teacher)
    expected = torch.where(RAGGED[..., None], direction, 0.0)
    torch.testing.assert_close(update_of(spec, pair, RAGGED), expected, rtol=1e-9, atol=1e-11)


@PROPERTY
@given(pair=pairs(), spec=st.sampled_from(EXACT))
def test_autograd_field_and_direction_agree_on_any_distribution(pair: Pair, spec: str) -> None:
    objective = objectives.parse(spec)
    everywhere = torch.ones(pair.student.shape[:-1], dtype=torch.bool)
    direction = objective.direction(pair.student, pair.teacher)
    # Weights over p (teacher_p_norm, uniform) reach e^50 on the flattest of these students' tokens.
    torch.testing.assert_close(update_of(spec, pair, everywhere), direction, rtol=1e-8, atol=1e-9)
    student_logprobs, teacher_logprobs = pair.student.log_softmax(-1), pair.teacher.log_softmax(-1)
    field = objective.field(student_logprobs, teacher_logprobs)
    assert field.isfinite().all()
    torch.testing.assert_close(centred(field, student_logprobs), direction, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("spec", [s for s in (*FULL_VOCABULARY, *cells(2, 3)) if "student_p_norm" not in s])
def test_central_differences_of_the_loss_value_are_the_direction(spec: str) -> None:
    """The printed values are true potentials; only `student_p_norm` holds a constant (its mass) that moves."""
    objective, pair = objectives.parse(spec), random_pair(5, vocab=5, shape=(1, 1))
    mask, step = torch.ones(1, 1, dtype=torch.bool), 1e-6
    slopes = torch.zeros(5, dtype=torch.float64)
    for token in range(5):
        nudge = torch.zeros(5, dtype=torch.float64)
        nudge[token] = step
        up, down = (objective.loss(pair.student + s * nudge, pair.teacher, response_mask=mask) for s in (1, -1))
        slopes[token] = (up - down) / (2 * step)
    torch.testing.assert_close(-slopes, objective.direction(pair.student, pair.teacher)[0, 0], rtol=1e-6, atol=1e-8)


def descent_by_hand(form: str, weight: str | None, p: list[float], q: list[float], members: set[int]) -> list[float]:
    """Token by token from the written formulas: gradient = sum_k c_k (1[j = k] - p_j)."""
    mass_p, mass_q = sum(p[k] for k in members), sum(q[k] for k in members)
    coefficients = [0.0] * len(p)
    for k in range(len(p)):
        log_ratio = math.log(p[k]) - math.log(q[k])
        if k not in members:
            coefficients[k] = p[k] * math.log((1 - mass_p) / (1 - mass_q)) if form == "tail_bin" else 0.0
        elif form == "unnormalised":
            coefficients[k] = p[k] * (log_ratio + 1)
        elif form == "tail_bin":
            coefficients[k] = p[k] * log_ratio
        elif form == "renormalised":
            kl = sum(p[i] / mass_p * (math.log(p[i] / mass_p) - math.log(q[i] / mass_q)) for i in members)
            coefficients[k] = p[k] / mass_p * (math.log(p[k] / mass_p) - math.log(q[k] / mass_q) - kl)
        else:
            weights = {
                "student_p": p[k],
                "student_p_norm": p[k] / mass_p,
                "teacher_p_norm": q[k] / mass_q,
                "uniform": 1 / len(members),
            }
            coefficients[k] = weights[str(weight)] * log_ratio
    return [c - p_j * sum(coefficients) for c, p_j in zip(coefficients, p, strict=True)]


@pytest.mark.parametrize("spec", cells(1, 2))
def test_each_cell_against_its_formula_written_out_by_hand(spec: str) -> None:
    p, q = [0.4, 0.3, 0.2, 0.1], [0.35, 0.1, 0.4, 0.15]
    objective = objectives.parse(spec)
    assert objective.topk is not None
    top_p, top_q = {1: ({0}, {2}), 2: ({0, 1}, {0, 2})}[objective.topk.k]
    members = {
        "student": top_p,
        "teacher": top_q,
        "union": top_p | top_q,
        "intersection": top_p & top_q,
        "symmetric_difference": top_p ^ top_q,
    }[objective.topk.support]
    expected = [0.0] * 4
    if members:
        weight = objective.topk.weight if objective.topk.form == "stop_gradient" else None
        expected = [-g for g in descent_by_hand(objective.topk.form, weight, p, q, members)]
    direction = objective.direction(torch.tensor(p).double().log(), torch.tensor(q).double().log())
    torch.testing.assert_close(direction, torch.tensor(expected).double(), rtol=1e-6, atol=1e-7)


def test_full_vocabulary_values_and_directions_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.2, 0.2, 0.6]).double()
    mask, shape = torch.ones(1, 1, dtype=torch.bool), (1, 1, 3)
    mixture = 0.75 * p + 0.25 * q
    values = {
        "reverse_kl": (p * (p / q).log()).sum(),
        "forward_kl": (q * (q / p).log()).sum(),
        "jsd:beta=0.25": 0.25 * (q * (q / mixture).log()).sum() + 0.75 * (p * (p / mixture).log()).sum(),
    }
    for spec, value in values.items():
        loss = objectives.parse(spec).loss(p.log().view(shape), q.log().view(shape), response_mask=mask)
        torch.testing.assert_close(loss, value)
    torch.testing.assert_close(objectives.make("forward_kl").direction(p.log(), q.log()), q - p)
    ratio = (q / p).log()
    torch.testing.assert_close(
        objectives.make("reverse_kl").direction(p.log(), q.log()), p * (ratio - (p * ratio).sum())
    )


@pytest.mark.parametrize("spec", (*EXACT[:4], *cells(2), "sft", "k2", "minillm"))
def test_what_stands_outside_the_mask_is_never_read(spec: str) -> None:
    pair = random_pair(3, shape=(4, 3))
    tokens = torch.arange(12).reshape(4, 3) % 6
    clean = update_of(spec, pair, RAGGED, tokens=tokens)
    outside = ~RAGGED[..., None]
    spoiled = Pair(pair.student.masked_fill(outside, torch.nan), pair.teacher.masked_fill(outside, torch.inf))
    dirty = update_of(spec, spoiled, RAGGED, tokens=tokens.masked_fill(~RAGGED, -100))
    assert torch.equal(clean, dirty)
    assert (dirty[~RAGGED] == 0.0).all()


@pytest.mark.parametrize("spec", (*EXACT[:4], *cells(2)))
def test_loss_weights_scale_each_token_and_leave_the_denominator(spec: str) -> None:
    pair = random_pair(8, shape=(4, 3))
    weights = torch.linspace(-1.0, 3.0, 12, dtype=torch.float64).reshape(4, 3)
    plain = update_of(spec, pair, RAGGED)
    weighted = update_of(spec, pair, RAGGED, loss_weights=weights)
    torch.testing.assert_close(weighted, plain * weights[..., None], rtol=1e-9, atol=1e-12)


def test_sft_imitates_the_given_tokens() -> None:
    pair, tokens = random_pair(1, shape=(4, 3)), torch.arange(12).reshape(4, 3) % 6
    objective = objectives.make("sft")
    direction = objective.direction(pair.student, None, tokens=tokens)
    assert torch.equal(direction.argmax(-1), tokens)
    expected = torch.where(RAGGED[..., None], direction, 0.0)
    torch.testing.assert_close(update_of("sft", pair, RAGGED, tokens=tokens), expected, rtol=1e-9, atol=1e-12)
    loss = objective.loss(pair.student, None, response_mask=RAGGED, tokens=tokens)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(pair.student[RAGGED], tokens[RAGGED]))


@pytest.mark.parametrize("spec", (*EXACT[:4], *cells(2)))
def test_a_shift_of_the_logits_changes_nothing(spec: str) -> None:
    pair, objective = random_pair(9), objectives.parse(spec)
    shifted = objective.direction(pair.student + 7.0, pair.teacher - 3.0)
    torch.testing.assert_close(shifted, objective.direction(pair.student, pair.teacher), rtol=1e-9, atol=1e-12)
    assert (shifted.sum(-1).abs() < 1e-12).all()


@pytest.mark.parametrize("spec", (*FULL_VOCABULARY, *cells(2)))
def test_without_response_tokens_loss_and_gradient_are_zero(spec: str) -> None:
    pair = random_pair(2)
    student = pair.student.clone().requires_grad_()
    mask = torch.zeros(2, 3, dtype=torch.bool)
    loss = objectives.parse(spec).loss(student, pair.teacher, response_mask=mask)
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None and (student.grad == 0.0).all()


@pytest.mark.parametrize("spec", (*FULL_VOCABULARY, *cells(2)))
def test_half_precision_logits_are_computed_in_float32(spec: str) -> None:
    pair = random_pair(4)
    half = Pair(pair.student.bfloat16(), pair.teacher.bfloat16())
    mask = torch.ones(2, 3, dtype=torch.bool)
    loss = objectives.parse(spec).loss(half.student, half.teacher, response_mask=mask)
    exact = objectives.parse(spec).loss(half.student.double(), half.teacher.double(), response_mask=mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)


def test_the_teacher_gets_no_gradient() -> None:
    pair = random_pair(6)
    teacher = pair.teacher.clone().requires_grad_()
    mask = torch.ones(2, 3, dtype=torch.bool)
    for spec in (*FULL_VOCABULARY, *cells(2)):
        student = pair.student.clone().requires_grad_()
        objectives.parse(spec).loss(student, teacher, response_mask=mask).backward()
        assert teacher.grad is None
