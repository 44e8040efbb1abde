"""Which tokens a top-k support holds, and how much probability."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import PROPERTY, Pair, cells, pairs, random_pair

from hydrometer import objectives
from hydrometer.objectives.topk import TopK, find_members, topk_ids


def best(logprobs: list[float], k: int) -> set[int]:
    """By sorting: most probable first, lower id first among equals, unreachable tokens never."""
    order = sorted(range(len(logprobs)), key=lambda token: (-logprobs[token], token))
    return {token for token in order[:k] if logprobs[token] > -torch.inf}


@PROPERTY
@given(pair=pairs(shape=(2, 2)), k=st.integers(1, 9))
def test_supports_are_the_sets_their_names_say(pair: Pair, k: int) -> None:
    student, teacher = pair.student.log_softmax(-1), pair.teacher.log_softmax(-1)
    for support in ("student", "teacher", "union", "intersection", "symmetric_difference"):
        members = find_members(TopK(k, support), student, teacher)
        student_mass, teacher_mass = objectives.make("topk_reverse_kl", k=k, support=support).topk_masses(
            student, teacher
        ) or (None, None)
        assert student_mass is not None and teacher_mass is not None
        for row in range(2):
            for column in range(2):
                p, q = student[row, column], teacher[row, column]
                of_student, of_teacher = best(p.tolist(), k), best(q.tolist(), k)
                expected = {
                    "student": of_student,
                    "teacher": of_teacher,
                    "union": of_student | of_teacher,
                    "intersection": of_student & of_teacher,
                    "symmetric_difference": of_student ^ of_teacher,
                }[support]
                expected = {token for token in expected if p[token] > -torch.inf}
                found = members.ids[row, column][members.filled[row, column]].tolist()
                assert len(found) == len(set(found))
                assert set(found) == expected
                at = torch.tensor(sorted(expected), dtype=torch.int64)
                torch.testing.assert_close(student_mass[row, column], p[at].exp().sum())
                torch.testing.assert_close(teacher_mass[row, column], q[at].exp().sum())


@pytest.mark.parametrize("k", [1, 4, 16, 63, 64])
def test_ties_of_low_precision_logits_go_to_the_lower_id(k: int) -> None:
    logits = torch.randn(50, 64, generator=torch.Generator().manual_seed(k)).mul(4).round() / 4
    expected = logits.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(topk_ids(logits, k).sort(-1).values, expected.sort(-1).values)


def test_a_single_position_needs_no_batch_axis() -> None:
    student, teacher = random_pair(1, shape=())
    for spec in ("reverse_kl", "jsd", *cells(2)):
        direction = objectives.parse(spec).direction(student, teacher)
        batched = objectives.parse(spec).direction(student[None, None], teacher[None, None])
        assert torch.equal(direction, batched[0, 0])


def test_only_top_k_kinds_have_masses() -> None:
    student, teacher = (x.log_softmax(-1) for x in random_pair(2))
    assert objectives.make("reverse_kl").topk_masses(student, teacher) is None
    both = objectives.make("topk_reverse_kl", k=6, form="tail_bin").topk_masses(student, teacher)
    assert both is not None
    for mass in both:
        torch.testing.assert_close(mass, torch.ones(2, 3, dtype=torch.float64))


def test_the_tail_bin_completes_both_distributions() -> None:
    """Its loss is the KL of two distributions over k + 1 outcomes."""
    pair, mask = random_pair(3, vocab=7, shape=(1, 1)), torch.ones(1, 1, dtype=torch.bool)
    p, q = pair.student[0, 0].softmax(-1), pair.teacher[0, 0].softmax(-1)
    kept = p.topk(3).indices
    binned = [torch.cat([x[kept], (1 - x[kept].sum())[None]]) for x in (p, q)]
    expected = (binned[0] * (binned[0] / binned[1]).log()).sum()
    loss = objectives.make("topk_reverse_kl", k=3, form="tail_bin").loss(*pair, response_mask=mask)
    torch.testing.assert_close(loss, expected)


@PROPERTY
@given(pair=pairs(), spec=st.sampled_from([s for s in cells(1, 2, 3) if "unnormalised" not in s]))
def test_every_other_value_is_non_negative(pair: Pair, spec: str) -> None:
    loss = objectives.parse(spec).loss(*pair, response_mask=torch.ones(2, 3, dtype=torch.bool))
    assert loss >= -1e-12


def test_normalised_weights_coincide_on_a_single_token_and_share_a_key() -> None:
    pair = random_pair(4)
    for support in ("student", "teacher", "intersection"):
        arms = [
            objectives.make("topk_reverse_kl", k=1, support=support, weight=weight)
            for weight in ("student_p_norm", "teacher_p_norm", "uniform")
        ]
        assert len({arm.direction_key for arm in arms}) == 1
        for arm in arms[1:]:
            torch.testing.assert_close(arm.direction(*pair), arms[0].direction(*pair), rtol=1e-9, atol=1e-12)


def test_renormalised_over_a_union_of_two_single_tokens_is_the_same_as_over_their_difference() -> None:
    pair = random_pair(6, shape=(20,))
    union, difference = (
        objectives.make("topk_reverse_kl", k=1, support=support, form="renormalised")
        for support in ("union", "symmetric_difference")
    )
    assert union.direction_key == difference.direction_key
    torch.testing.assert_close(union.direction(*pair), difference.direction(*pair), rtol=1e-9, atol=1e-12)


def test_objectives_with_different_keys_have_different_directions() -> None:
    pair = random_pair(5, vocab=8, shape=(300,))
    by_key: dict[str, torch.Tensor] = {}
    for spec in ("reverse_kl", "forward_kl", "jsd", "sampled_token", "k2", "k3", "k1_loss", *cells(1, 2, 3)):
        objective = objectives.parse(spec)
        direction = objective.direction(*pair)
        known = by_key.setdefault(objective.direction_key, direction)
        torch.testing.assert_close(direction, known, rtol=1e-9, atol=1e-12)
    keys = list(by_key)
    for i, one in enumerate(keys):
        for other in keys[:i]:
            assert not torch.allclose(by_key[one], by_key[other], rtol=1e-6, atol=1e-9), (one, other)
