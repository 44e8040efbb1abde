"""Every per-token statistic against closed forms on small vocabularies and a plain loop over tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from step_records import PROPERTY, random_logprobs, random_tokens
from torch import Tensor

from hydrometer.dynamics import compute_student_stats, compute_token_stats, join_stats
from hydrometer.dynamics import positions as positions_module


def _logs(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_closed_form_on_three_tokens() -> None:
    p, q = (0.5, 0.3, 0.2), (0.1, 0.6, 0.3)
    stats = compute_token_stats(_logs(p), _logs(q), torch.tensor([0]), k=2)
    ln = math.log
    assert stats.student_logprob.item() == pytest.approx(ln(0.5))
    assert stats.teacher_logprob.item() == pytest.approx(ln(0.1))
    assert stats.student_entropy.item() == pytest.approx(-(0.5 * ln(0.5) + 0.3 * ln(0.3) + 0.2 * ln(0.2)))
    assert stats.teacher_entropy.item() == pytest.approx(-(0.1 * ln(0.1) + 0.6 * ln(0.6) + 0.3 * ln(0.3)))
    assert stats.reverse_kl.item() == pytest.approx(0.5 * ln(5) + 0.3 * ln(0.5) + 0.2 * ln(2 / 3))
    assert stats.forward_kl.item() == pytest.approx(0.1 * ln(0.2) + 0.6 * ln(2) + 0.3 * ln(1.5))
    # S_p = {0, 1}, S_q = {1, 2}: one shared token, so p~ = q~ = 1 on it.
    assert stats.overlap_ratio.item() == 0.5
    assert stats.student_overlap_mass.item() == pytest.approx(0.3)
    assert stats.teacher_overlap_mass.item() == pytest.approx(0.6)
    assert stats.overlap_token_advantage.item() == pytest.approx(0.0, abs=1e-12)
    assert stats.overlap_token_advantage_verl.item() == pytest.approx(-0.6 * ln(2))
    assert stats.student_topk_mass.item() == pytest.approx(0.8)
    assert stats.teacher_topk_mass.item() == pytest.approx(0.9)
    assert stats.teacher_rank.item() == 3


def test_the_two_advantages_differ_as_their_formulas_say() -> None:
    p, q = (0.5, 0.3, 0.2), (0.2, 0.7, 0.1)
    stats = compute_token_stats(_logs(p), _logs(q), torch.tensor([1]), k=2)
    ln = math.log
    kl = 5 / 8 * ln((5 / 8) / (2 / 9)) + 3 / 8 * ln((3 / 8) / (7 / 9))
    assert stats.overlap_token_advantage.item() == pytest.approx(-kl / 2)
    assert stats.overlap_token_advantage_verl.item() == pytest.approx(-(0.2 * ln(0.4) + 0.7 * ln(7 / 3)) / 2)
    assert stats.overlap_ratio.item() == 1.0
    assert stats.teacher_rank.item() == 1


def _reference(p: list[float], q: list[float], token: int, k: int, rank_k: int) -> dict[str, float]:
    """One position, spelled out on Python floats."""
    by_p = sorted(range(len(p)), key=lambda v: -p[v])
    by_q = sorted(range(len(q)), key=lambda v: -q[v])
    shared = set(by_p[:k]) & set(by_q[:k])
    p_mass, q_mass = sum(p[v] for v in shared), sum(q[v] for v in shared)
    advantage = advantage_verl = math.nan
    if shared:
        gains = [p[v] / p_mass * (math.log(q[v] / q_mass) - math.log(p[v] / p_mass)) for v in shared]
        advantage = sum(gains) / len(shared)
        advantage_verl = sum(-q[v] * (math.log(q[v]) - math.log(p[v])) for v in shared) / len(shared)
    return {
        "student_logprob": math.log(p[token]),
        "student_entropy": -sum(x * math.log(x) for x in p),
        "student_topk_mass": sum(p[v] for v in by_p[:k]),
        "teacher_logprob": math.log(q[token]),
        "teacher_entropy": -sum(x * math.log(x) for x in q),
        "teacher_topk_mass": sum(q[v] for v in by_q[:k]),
        "teacher_rank": min(by_q.index(token) + 1, rank_k + 1),
        "reverse_kl": sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)),
        "forward_kl": sum(y * math.log(y / x) for x, y in zip(p, q, strict=True)),
        "overlap_ratio": len(shared) / k,
        "student_overlap_mass": p_mass,
        "teacher_overlap_mass": q_mass,
        "overlap_token_advantage": advantage,
        "overlap_token_advantage_verl": advantage_verl,
    }


@pytest.mark.parametrize(("vocab", "k", "rank_k"), [(12, 1, 3), (12, 4, 2), (30, 5, 50), (7, 7, 4)])
def test_equal_to_a_plain_loop(vocab: int, k: int, rank_k: int) -> None:
    student, teacher = random_logprobs(1, 40, vocab), random_logprobs(2, 40, vocab)
    tokens = random_tokens(3, 40, vocab)
    stats = compute_token_stats(student, teacher, tokens, k=k, rank_k=rank_k)
    empty = 0
    for row in range(40):
        expected = _reference(
            student[row].exp().tolist(), teacher[row].exp().tolist(), int(tokens[row]), k=k, rank_k=rank_k
        )
        for name, value in expected.items():
            assert getattr(stats, name)[row].item() == pytest.approx(value, abs=1e-10, nan_ok=True), name
        empty += math.isnan(expected["overlap_token_advantage"])
    assert (empty > 0) == (k < vocab / 2)


def test_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = random_logprobs(4, 23, 11), random_logprobs(5, 23, 11)
    tokens = random_tokens(6, 23, 11)
    whole = compute_token_stats(student, teacher, tokens, k=3)
    monkeypatch.setattr(positions_module, "_BLOCK_ELEMENTS", 30)
    cuts = (slice(0, 7), slice(7, 7), slice(7, 23))
    parts = [compute_token_stats(student[cut], teacher[cut], tokens[cut], k=3) for cut in cuts]
    for name, joined, expected in zip(whole._fields, join_stats(parts), whole, strict=True):
        torch.testing.assert_close(joined, expected, rtol=0, atol=0, equal_nan=True, msg=name)
    alone = [compute_student_stats(student[cut], tokens[cut], k=3) for cut in cuts]
    for name, joined in join_stats(alone)._asdict().items():
        assert torch.equal(joined, getattr(whole, name)), name


def test_excluded_tokens_have_their_place() -> None:
    # The student excludes token 2, the teacher token 0; both exclude token 3.
    student = _logs((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25))
    teacher = _logs((0.0, 0.4, 0.6, 0.0), (0.4, 0.6, 0.0, 0.0), (0.25, 0.25, 0.25, 0.25))
    stats = compute_token_stats(student, teacher, torch.tensor([2, 3, 0]), k=3)
    assert stats.student_entropy[:2].tolist() == pytest.approx([math.log(2)] * 2)
    assert stats.reverse_kl[0] == math.inf
    assert stats.forward_kl[0] == math.inf
    assert stats.reverse_kl[1].item() == pytest.approx(0.5 * math.log(1.25) + 0.5 * math.log(0.5 / 0.6))
    assert stats.forward_kl[1].item() == pytest.approx(0.4 * math.log(0.8) + 0.6 * math.log(1.2))
    assert stats.reverse_kl[2].item() == 0.0
    assert stats.student_logprob[:2].isnan().all()
    assert stats.teacher_logprob.tolist() == pytest.approx([math.log(0.6), -math.inf, math.log(0.25)])
    assert stats.overlap_ratio.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert stats.teacher_overlap_mass[0].item() == pytest.approx(0.4)


def test_where_nothing_is_shared_the_advantages_do_not_exist() -> None:
    stats = compute_token_stats(_logs((0.8, 0.1, 0.1)), _logs((0.1, 0.8, 0.1)), torch.tensor([0]), k=1)
    assert stats.overlap_ratio.item() == 0.0
    assert stats.student_overlap_mass.item() == 0.0
    assert stats.overlap_token_advantage.isnan().all()
    assert stats.overlap_token_advantage_verl.isnan().all()


def test_shared_tokens_may_be_too_improbable_for_float32() -> None:
    student = torch.tensor([[0.0, -120.0, -121.0, -200.0]], dtype=torch.float32)
    teacher = torch.tensor([[-200.0, -0.5, -1.0, -300.0]], dtype=torch.float32)
    stats = compute_token_stats(student, teacher, torch.tensor([0]), k=3)
    p = [math.exp(x) for x in (0.0, -120.0, -121.0)]
    q = [math.exp(x) for x in (-200.0, -0.5, -1.0)]
    kl = sum(x / sum(p) * math.log((x / sum(p)) / (y / sum(q))) for x, y in zip(p, q, strict=True))
    assert stats.overlap_token_advantage.item() == pytest.approx(-kl / 3, rel=1e-6)
    both = compute_token_stats(student[:, 1:], teacher[:, 1:], torch.tensor([0]), k=2)
    assert both.overlap_token_advantage.item() == pytest.approx(
        -(_kl_of_pair(1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.5))) / 2), rel=1e-5
    )


def _kl_of_pair(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@PROPERTY
@given(
    seed=st.integers(0, 10**6),
    vocab=st.integers(1, 40),
    k=st.integers(1, 45),
    scale=st.sampled_from([0.01, 1.0, 8.0, 40.0]),
)
def test_bounds_in_float32(seed: int, vocab: int, k: int, scale: float) -> None:
    student = random_logprobs(seed, 6, vocab, scale, torch.float32)
    teacher = random_logprobs(seed + 1, 6, vocab, scale, torch.float32)
    stats = compute_token_stats(student, teacher, random_tokens(seed, 6, vocab), k=k, rank_k=5)
    for share in (stats.overlap_ratio, stats.student_overlap_mass, stats.teacher_overlap_mass):
        assert ((share >= 0) & (share <= 1 + 1e-5)).all()
    assert (stats.student_overlap_mass <= stats.student_topk_mass + 1e-6).all()
    assert (stats.teacher_overlap_mass <= stats.teacher_topk_mass + 1e-6).all()
    assert (stats.overlap_token_advantage.nan_to_num() <= 0).all()
    assert torch.equal(stats.overlap_token_advantage.isnan(), stats.overlap_ratio == 0)
    assert (stats.reverse_kl >= 0).all()
    assert (stats.forward_kl >= 0).all()
    assert (stats.student_entropy <= math.log(vocab) + 1e-5).all()
    assert ((stats.teacher_rank >= 1) & (stats.teacher_rank <= 6)).all()


@PROPERTY
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_shift_of_all_logits_changes_nothing(seed: int, shift: float) -> None:
    student, teacher = random_logprobs(seed, 5, 9), random_logprobs(seed + 1, 5, 9)
    tokens = random_tokens(seed, 5, 9)
    plain = compute_token_stats(student, teacher, tokens, k=4)
    shifted = compute_token_stats((student + shift).log_softmax(-1), (teacher - shift).log_softmax(-1), tokens, k=4)
    for name, value, expected in zip(plain._fields, shifted, plain, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11, equal_nan=True, msg=name)


@PROPERTY
@given(seed=st.integers(0, 10**6), k=st.integers(1, 9))
def test_a_teacher_that_is_the_student(seed: int, k: int) -> None:
    student = random_logprobs(seed, 5, 9)
    stats = compute_token_stats(student, student.clone(), random_tokens(seed, 5, 9), k=k)
    assert (stats.overlap_ratio == 1).all()
    for zero in (stats.reverse_kl, stats.forward_kl, stats.overlap_token_advantage, stats.overlap_token_advantage_verl):
        assert zero.abs().max() < 1e-14
    assert torch.equal(stats.student_overlap_mass, stats.teacher_topk_mass)


def test_a_broken_model_is_not_hidden() -> None:
    student = random_logprobs(0, 2, 5)
    student[0] = math.nan
    stats = compute_token_stats(student, random_logprobs(1, 2, 5), torch.tensor([0, 1]), k=2)
    for name in ("student_entropy", "reverse_kl", "forward_kl", "student_logprob"):
        assert getattr(stats, name).isnan().tolist() == [True, False], name


def test_nothing_waits_for_the_values() -> None:
    """Tensors without data: whatever needs a value on the host fails on them."""
    logprobs, tokens = torch.empty(70, 11, device="meta"), torch.empty(70, dtype=torch.long, device="meta")
    stats = join_stats([compute_token_stats(logprobs, logprobs, tokens, k=3)] * 2)
    assert {column.shape for column in stats} == {(140,)}
    assert compute_student_stats(logprobs, tokens, k=3).student_entropy.device.type == "meta"


def test_what_is_refused() -> None:
    logprobs = random_logprobs(0, 2, 5)
    with pytest.raises(ValueError, match="k >= 1, got 0"):
        compute_token_stats(logprobs, logprobs, torch.tensor([0, 1]), k=0)
    with pytest.raises(ValueError, match="at least one chunk"):
        join_stats([])
