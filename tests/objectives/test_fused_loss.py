"""The fused loss against autograd of the plain one on whole logits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from objective_cases import ESTIMATORS, FULL_VOCABULARY, cells
from torch import Tensor

from hydrometer import objectives
from hydrometer.objectives import FusedLoss, Head, Term, fused_loss
from hydrometer.objectives.fused import BLOCK_BYTES_CPU, default_chunk_tokens

MASK = torch.tensor(
    [[True, True, True, False], [True, False, False, False], [False] * 4, [True, False, True, True], [True] * 4]
)
COUNT = int(MASK.sum())
ROLLOUT_IDS = MASK.nonzero()[:, 0]
VOCAB, WIDTH = 9, 4
ALL = (*FULL_VOCABULARY, *cells(1, 3), *ESTIMATORS, "minillm", "dr_grpo", "sft")
FEW = ("reverse_kl", "jsd", "topk_reverse_kl:k=3,form=tail_bin", "k3", "minillm", "sft")


class Case(NamedTuple):
    """Leaves of the student, the teacher, and what is known of each token (`[token]`)."""

    hidden: Tensor
    head: Head
    teacher_hidden: Tensor
    teacher_head: Head
    tokens: Tensor
    advantages: Tensor
    loss_weights: Tensor

    def leaves(self) -> list[Tensor]:
        return [x for x in (self.hidden, self.head.weight, self.head.bias) if x is not None]

    def part(self, rows: slice) -> dict[str, Any]:
        """The keyword arguments for some of the tokens."""
        return {
            "teacher_hidden": self.teacher_hidden[rows],
            "teacher_head": self.teacher_head,
            "tokens": self.tokens[rows],
            "rollout_ids": ROLLOUT_IDS[rows],
            "advantages": self.advantages[rows],
        }


def make_case(seed: int = 0, *, bias: bool = True, scale: float = 1.0, softcap: float | None = None) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    student = Head(normal(VOCAB, WIDTH), normal(VOCAB) if bias else None, scale, softcap)
    teacher = Head(normal(VOCAB, WIDTH + 1), normal(VOCAB) if bias else None, 1.5 * scale, softcap)
    case = Case(
        normal(COUNT, WIDTH),
        student,
        normal(COUNT, WIDTH + 1),
        teacher,
        torch.randint(0, VOCAB, (COUNT,), generator=generator),
        normal(len(MASK))[ROLLOUT_IDS],
        normal(COUNT),
    )
    for leaf in case.leaves():
        leaf.requires_grad_()
    return case


def logits_of(hidden: Tensor, head: Head) -> Tensor:
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias) * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def spread(values: Tensor) -> Tensor:
    """From `[token]` to `[rollout, position]`."""
    whole = values.new_zeros(*MASK.shape, *values.shape[1:])
    whole[MASK] = values
    return whole


def plain_loss(spec: str, case: Case, *, temperature: float = 1.0, loss_weights: Tensor | None = None) -> Tensor:
    objective = objectives.parse(spec)
    advantages = torch.zeros(len(MASK), dtype=torch.float64)
    advantages[ROLLOUT_IDS] = case.advantages
    return objective.loss(
        spread(logits_of(case.hidden, case.head) / temperature),
        spread(logits_of(case.teacher_hidden, case.teacher_head) / temperature),
        response_mask=MASK,
        tokens=spread(case.tokens),
        advantages=advantages,
        loss_weights=None if loss_weights is None else spread(loss_weights),
    )


def run_fused(specs: list[str], case: Case, **options: Any) -> FusedLoss:
    terms = [Term(objectives.parse(spec)) for spec in specs]
    return fused_loss(terms, case.hidden, case.head, **case.part(slice(None)), **options)


def gradients(loss: Tensor, case: Case) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, case.leaves())


def assert_same(fused: Tensor, plain: Tensor, case: Case) -> None:
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)
    for ours, expected in zip(gradients(fused, case), gradients(plain, case), strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "chunk_tokens"),
    [*((spec, 4) for spec in ALL), *((spec, size) for spec in FEW for size in (1, 2, 3, COUNT, 100))],
)
def test_every_kind_equals_autograd_of_its_loss_on_whole_logits(spec: str, chunk_tokens: int) -> None:
    case = make_case(0)
    plain = plain_loss(spec, case)
    fused = run_fused([spec], case, chunk_tokens=chunk_tokens)
    assert_same(fused.loss, plain, case)
    torch.testing.assert_close(fused.per_term, plain.detach()[None], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spec", ALL)
def test_weights_temperature_scale_and_softcap_together(spec: str) -> None:
    case = make_case(4, scale=0.6, softcap=2.0)
    options = {"temperature": 0.7, "loss_weights": case.loss_weights}
    fused = run_fused([spec], case, chunk_tokens=3, warp_temperature=0.7, loss_weights=case.loss_weights)
    assert_same(fused.loss, plain_loss(spec, case, **options), case)


@pytest.mark.parametrize(
    ("head", "temperature"),
    [({"scale": 0.25}, 1.0), ({"softcap": 3.0}, 1.0), ({"bias": False}, 0.7), ({"scale": 2.0, "softcap": 1.5}, 1.3)],
)
@pytest.mark.parametrize("spec", FEW)
def test_each_trait_of_a_head_alone(spec: str, head: dict[str, Any], temperature: float) -> None:
    case = make_case(5, **head)
    fused = run_fused([spec], case, chunk_tokens=5, warp_temperature=temperature)
    assert_same(fused.loss, plain_loss(spec, case, temperature=temperature), case)


def test_terms_add_up_with_their_coefficients() -> None:
    case, coefficients = make_case(6), (1.0, -0.5, 2.0, 0.3, 0.7, 0.0)
    terms = [Term(objectives.parse(spec), c) for spec, c in zip(FEW, coefficients, strict=True)]
    fused = fused_loss(
        terms, case.hidden, case.head, **case.part(slice(None)), loss_weights=case.loss_weights, chunk_tokens=4
    )
    plain = [plain_loss(spec, case, loss_weights=case.loss_weights) for spec in FEW]
    torch.testing.assert_close(fused.per_term, torch.stack(plain).detach(), rtol=1e-10, atol=1e-12)
    assert not fused.per_term.requires_grad
    total = torch.stack([c * value for c, value in zip(coefficients, plain, strict=True)]).sum()
    assert_same(fused.loss, total, case)


@pytest.mark.parametrize("spec", FEW)
@pytest.mark.parametrize("cut", [3, 4, 7])
def test_micro_batches_with_one_divisor_sum_to_the_whole(spec: str, cut: int) -> None:
    """Cut between rollouts, as micro-batches are: tokens 0-2, 3, 4-6 and 7-10."""
    case = make_case(7)
    term = Term(objectives.parse(spec))
    parts = [
        fused_loss([term], case.hidden[rows], case.head, **case.part(rows), divide_by=COUNT, chunk_tokens=2).loss
        for rows in (slice(0, cut), slice(cut, COUNT))
    ]
    assert_same(parts[0] + parts[1], plain_loss(spec, case), case)


def test_upstream_factors_scale_the_gradient() -> None:
    case = make_case(8)
    fused, plain = run_fused(["jsd"], case).loss, plain_loss("jsd", case)
    assert_same(-3.5 * fused, -3.5 * plain, case)


def test_central_differences_of_the_value_are_the_gradient() -> None:
    case, step = make_case(9, scale=0.6, softcap=2.0), 1e-6
    specs = ["reverse_kl", "topk_reverse_kl:k=3,form=tail_bin", "k2"]
    options = {"loss_weights": case.loss_weights, "warp_temperature": 0.7, "chunk_tokens": 4}
    made = gradients(run_fused(specs, case, **options).loss, case)
    generator = torch.Generator().manual_seed(1)
    for leaf, gradient in zip(case.leaves(), made, strict=True):
        for _ in range(5):
            nudge = step * torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                leaf += nudge
                up = run_fused(specs, case, **options).loss
                leaf -= 2 * nudge
                down = run_fused(specs, case, **options).loss
                leaf += nudge
            slope = (nudge * gradient).sum() / step
            assert slope.abs() > 1e-2
            torch.testing.assert_close((up - down) / (2 * step), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spec", FEW)
def test_what_is_frozen_gets_no_gradient_and_leaves_the_rest_as_it_was(spec: str) -> None:
    case = make_case(10)
    expected = gradients(plain_loss(spec, case), case)
    assert case.head.bias is not None
    case.head.weight.requires_grad_(False)
    case.head.bias.requires_grad_(False)
    run_fused([spec], case).loss.backward()
    assert case.head.weight.grad is None and case.head.bias.grad is None
    torch.testing.assert_close(case.hidden.grad, expected[0], rtol=1e-10, atol=1e-12)
    case.hidden.requires_grad_(False)
    assert not run_fused([spec], case).loss.requires_grad


def test_without_grad_mode_nothing_is_kept() -> None:
    case = make_case(10)
    with torch.no_grad():
        fused = run_fused(["reverse_kl"], case)
    assert not fused.loss.requires_grad
    torch.testing.assert_close(fused.loss, plain_loss("reverse_kl", case).detach())


def test_a_second_way_back_is_refused() -> None:
    case = make_case(11)
    loss = run_fused(["reverse_kl"], case).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize("spec", FEW)
def test_no_tokens_no_loss_and_gradients_of_zero(spec: str) -> None:
    case = make_case(12)
    fused = fused_loss([Term(objectives.parse(spec))], case.hidden[:0], case.head, **case.part(slice(0)))
    fused.loss.backward()
    assert fused.loss == 0.0 and fused.per_term.tolist() == [0.0]
    for leaf in case.leaves():
        assert leaf.grad is not None and (leaf.grad == 0.0).all()


@pytest.mark.parametrize("spec", ["reverse_kl", "k2", "topk_reverse_kl:k=3"])
@pytest.mark.parametrize("longer", ["student", "teacher"])
def test_heads_padded_differently_share_their_first_rows(spec: str, longer: str) -> None:
    case = make_case(13)
    expected = gradients(plain_loss(spec, case), case)

    def pad(head: Head) -> Head:
        assert head.bias is not None
        weight = torch.cat([head.weight.detach(), torch.full_like(head.weight, 5.0).detach()[:3]])
        return head._replace(weight=weight, bias=torch.cat([head.bias.detach(), torch.full((3,), 9.0)]))

    if longer == "student":
        case = case._replace(head=pad(case.head))
        for leaf in case.leaves():
            leaf.requires_grad_()
    else:
        case = case._replace(teacher_head=pad(case.teacher_head))
    made = gradients(run_fused([spec], case).loss, case)
    for ours, plain in zip(made[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours[:VOCAB], plain, rtol=1e-10, atol=1e-12)
        assert (ours[VOCAB:] == 0.0).all()
    torch.testing.assert_close(made[0], expected[0], rtol=1e-10, atol=1e-12)


def test_observers_see_every_token_once_with_both_distributions() -> None:
    case = make_case(14, scale=0.6, softcap=2.0)
    seen: list[tuple[slice, Tensor, Tensor]] = []

    def observe(rows: slice, student: Tensor, teacher: Tensor | None) -> None:
        assert teacher is not None and not student.requires_grad
        seen.append((rows, student, teacher))

    run_fused(["jsd", "k3"], case, warp_temperature=0.7, chunk_tokens=4, observe=observe)
    assert [(rows.start, rows.stop) for rows, _, _ in seen] == [(8, COUNT), (4, 8), (0, 4)]
    for place, hidden, head in ((1, case.hidden, case.head), (2, case.teacher_hidden, case.teacher_head)):
        expected = (logits_of(hidden, head) / 0.7).log_softmax(-1).detach()
        torch.testing.assert_close(torch.cat([entry[place] for entry in reversed(seen)]), expected)


def test_without_a_teacher_the_observer_gets_none() -> None:
    case, seen = make_case(15), []
    terms = [Term(objectives.make("sft")), Term(objectives.make("dr_grpo"))]
    fused_loss(
        terms,
        case.hidden,
        case.head,
        tokens=case.tokens,
        advantages=case.advantages,
        observe=lambda rows, student, teacher: seen.append(teacher),
    )
    assert seen == [None]


@pytest.mark.parametrize(
    ("spec", "missing"),
    [("reverse_kl", "teacher_hidden"), ("sft", "tokens"), ("dr_grpo", "advantages"), ("minillm", "rollout_ids")],
)
def test_what_a_term_needs_is_asked_for_by_name(spec: str, missing: str) -> None:
    case = make_case(16)
    without = ("teacher_hidden", "teacher_head") if missing == "teacher_hidden" else (missing,)
    given = {name: value for name, value in case.part(slice(None)).items() if name not in without}
    with pytest.raises(TypeError, match=f"'{spec}' needs {missing}"):
        fused_loss([Term(objectives.parse(spec))], case.hidden, case.head, **given)


@pytest.mark.parametrize("missing", ["teacher_hidden", "teacher_head"])
def test_half_a_teacher_is_refused(missing: str) -> None:
    case = make_case(16)
    given = {name: value for name, value in case.part(slice(None)).items() if name != missing}
    with pytest.raises(TypeError, match="together"):
        fused_loss([Term(objectives.make("sft"))], case.hidden, case.head, **given)


def narrowed(case: Case, dtype: torch.dtype) -> Case:
    """Student and teacher in another dtype, as new leaves."""

    def convert(head: Head) -> Head:
        assert head.bias is not None
        return head._replace(weight=head.weight.detach().to(dtype), bias=head.bias.detach().to(dtype))

    narrow = case._replace(
        hidden=case.hidden.detach().to(dtype),
        head=convert(case.head),
        teacher_hidden=case.teacher_hidden.to(dtype),
        teacher_head=convert(case.teacher_head),
        advantages=case.advantages.float(),
    )
    for leaf in narrow.leaves():
        leaf.requires_grad_()
    return narrow


@pytest.mark.parametrize("spec", ["reverse_kl", "forward_kl", "jsd", "k2", "minillm", "sft", "dr_grpo"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
def test_narrow_dtypes_stay_close_to_float64(spec: str, dtype: torch.dtype, tolerance: float) -> None:
    case = make_case(17)
    narrow = narrowed(case, dtype)
    fused = run_fused([spec], narrow, chunk_tokens=4)
    plain = plain_loss(spec, case)
    assert fused.loss.dtype == torch.float32
    torch.testing.assert_close(fused.loss.double(), plain, rtol=tolerance, atol=tolerance)
    for ours, expected, leaf in zip(
        gradients(fused.loss, narrow), gradients(plain, case), narrow.leaves(), strict=True
    ):
        assert ours.dtype == leaf.dtype == dtype
        assert (ours.double() - expected).norm() < tolerance * expected.norm()


def test_narrow_chunks_lose_nothing_that_grows_with_their_number() -> None:
    """The head's gradient is summed in float32: four hundred chunks are as close as one."""
    generator = torch.Generator().manual_seed(0)
    count = 400
    hidden = (torch.ones(count, WIDTH) + 0.1 * torch.randn(count, WIDTH, generator=generator)).bfloat16()
    weight = torch.randn(VOCAB, WIDTH, generator=generator).bfloat16().requires_grad_()
    term, tokens = Term(objectives.make("sft")), torch.zeros(count, dtype=torch.int64)
    per_size = [
        torch.autograd.grad(fused_loss([term], hidden, Head(weight), tokens=tokens, chunk_tokens=size).loss, weight)[0]
        for size in (1, count)
    ]
    torch.testing.assert_close(*per_size, rtol=2**-7, atol=0.0)


def test_under_autocast_matmuls_are_narrow_and_gradients_are_not() -> None:
    case = narrowed(make_case(18), torch.float32)
    plain = gradients(run_fused(["reverse_kl"], case).loss, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = run_fused(["reverse_kl"], case)
    half = narrowed(case, torch.bfloat16)
    torch.testing.assert_close(fused.loss, run_fused(["reverse_kl"], half).loss, rtol=1e-2, atol=0.0)
    for ours, expected in zip(gradients(fused.loss, case), plain, strict=True):
        assert ours.dtype == torch.float32
        assert 0.0 < (ours - expected).norm() < 3e-2 * expected.norm()


def test_chunks_are_as_many_tokens_as_fit_but_not_too_few() -> None:
    cpu = torch.device("cpu")
    assert default_chunk_tokens(49152, cpu) == 128
    assert default_chunk_tokens(1_000_000, cpu) == 128
    assert default_chunk_tokens(64, cpu) * 64 * 4 == BLOCK_BYTES_CPU
    assert default_chunk_tokens(151936, torch.device("cuda")) > default_chunk_tokens(151936, cpu)


@pytest.fixture(scope="module")
def chunked_divergence_loss() -> Callable[..., Any]:
    trainer = pytest.importorskip("trl.trainer.distillation_trainer")
    return trainer._chunked_divergence_loss


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_value_and_gradient_equal_trl(
    chunked_divergence_loss: Callable[..., Any], beta: float, softcap: float | None
) -> None:
    """TRL's stable chunked loss, which computes in float32."""
    case = narrowed(make_case(19, scale=0.8, softcap=softcap), torch.float32)
    theirs, _, tokens = chunked_divergence_loss(
        case.hidden[None],
        case.teacher_hidden[None],
        case.head.weight,
        case.teacher_head.weight,
        torch.ones(1, COUNT),
        beta,
        student_lm_head_bias=case.head.bias,
        teacher_lm_head_bias=case.teacher_head.bias,
        student_logit_scale=case.head.scale,
        teacher_logit_scale=case.teacher_head.scale,
        student_final_logit_softcapping=softcap,
        teacher_final_logit_softcapping=softcap,
        temperature=0.7,
    )
    assert tokens == COUNT
    ours = run_fused([f"jsd:beta={beta:g}"], case, warp_temperature=0.7, chunk_tokens=4).loss
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)
    for mine, expected in zip(gradients(ours, case), gradients(theirs, case), strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
