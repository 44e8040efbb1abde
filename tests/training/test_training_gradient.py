"""The gradient of the real loop, on responses of the bundled student, against plain network calls and autograd."""

import pytest
import torch
from lessons import Lesson, assert_same_gradients, learn, plain_gradients, set_lesson, terms_of
from torch import Tensor

from hydrometer import objectives
from hydrometer.objectives import Objective, fused

TOLERANCE = 1e-6
"""Of the largest entry of the gradient. Weights are in float64, but the networks' norms round to float32 even then."""
FORMS = ("unnormalised", "stop_gradient", "renormalised", "tail_bin")
DISTRIBUTIONS = (
    "reverse_kl",
    "forward_kl",
    "jsd:beta=0.3",
    *(f"topk_reverse_kl:k=4,form={form}" for form in FORMS),
    "topk_reverse_kl:k=4,form=stop_gradient,support=intersection,weight=teacher_p_norm",
    "topk_reverse_kl:k=2,form=renormalised,support=union",
)
SAMPLED = ("sampled_token", "k1_loss", "k2", "k3", "minillm", "dr_grpo", "sft")


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """With a temperature, so that one that is forgotten somewhere is seen."""
    found = set_lesson(temperature=0.8)
    assert len({exercise.advantage for exercise in found.exercises}) > 2, "dr_grpo needs different outcomes"
    return found


def loss_of(objective: Objective):
    def use(student: Tensor, teacher: Tensor | None, mask: Tensor, tokens: Tensor, advantages: Tensor) -> Tensor:
        return objective.loss(student, teacher, response_mask=mask, tokens=tokens, advantages=advantages)

    return use


def direction_of(objective: Objective):
    """A scalar whose gradient in the student's logits is -direction / n."""

    def use(student: Tensor, teacher: Tensor | None, mask: Tensor, *_: Tensor) -> Tensor:
        assert teacher is not None
        direction = objective.direction(student, teacher) * mask[..., None]
        return -(direction * student).sum() / mask.sum()

    return use


@pytest.mark.parametrize("spec", [*DISTRIBUTIONS, *SAMPLED])
def test_every_kind_has_the_gradient_of_its_loss_on_plain_logits(spec: str, lesson: Lesson) -> None:
    objective = objectives.parse(spec)
    expected = plain_gradients(lesson, objective, use=loss_of(objective))
    found = learn(lesson, terms_of(spec))
    assert_same_gradients(found.gradients, expected, tolerance=TOLERANCE)


@pytest.mark.parametrize("spec", DISTRIBUTIONS)
def test_a_step_follows_the_direction_that_a_diagnosis_measures(spec: str, lesson: Lesson) -> None:
    """d loss / d logits = -direction / n, times the 1 / temperature between warped and plain logits."""
    objective = objectives.parse(spec)
    expected = plain_gradients(lesson, objective, use=direction_of(objective))
    found = learn(lesson, terms_of(spec))
    assert_same_gradients(found.gradients, expected, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    ("spec", "micro_batch"), [("reverse_kl", 1), ("reverse_kl", 4), ("minillm", 1), ("dr_grpo", 4), ("sft", 1)]
)
def test_neither_chunks_nor_micro_batches_change_gradient_losses_or_metrics(
    spec: str, micro_batch: int, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learn(lesson, terms_of(spec))
    monkeypatch.setattr(fused, "default_chunk_tokens", lambda vocab, device: 7)
    parts = learn(lesson, terms_of(spec), micro_batch=micro_batch)
    assert_same_gradients(parts.gradients, whole.gradients, tolerance=TOLERANCE)
    torch.testing.assert_close(parts.gathered.losses, whole.gathered.losses, rtol=1e-6, atol=1e-8)
    mine, theirs = parts.gathered.stats, whole.gathered.stats
    if spec == "sft":
        assert mine is None and theirs is None
        return
    assert mine is not None and theirs is not None
    assert mine.exercise.equal(theirs.exercise)
    for ours, expected in zip(mine.values, theirs.values, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)


def test_terms_add_up_with_their_coefficients(lesson: Lesson) -> None:
    """Reward, distillation and imitation together, in one step."""
    specs, coefficients = ("reverse_kl", "k2", "dr_grpo", "sft"), (0.5, 2.0, 0.1, 0.3)
    together = learn(lesson, terms_of(*specs, coefficients=coefficients))
    apart = [learn(lesson, terms_of(spec)) for spec in specs]
    added = {
        name: sum(c * one.gradients[name] for c, one in zip(coefficients, apart, strict=True))
        for name in together.gradients
    }
    assert_same_gradients(together.gradients, added, tolerance=TOLERANCE)
    losses = torch.cat([one.gathered.losses for one in apart])
    torch.testing.assert_close(together.gathered.losses, losses, rtol=1e-5, atol=1e-7)


def test_recomputed_activations_change_nothing(lesson: Lesson) -> None:
    plain = learn(lesson, terms_of("reverse_kl"))
    again = learn(lesson, terms_of("reverse_kl"), recompute=True)
    assert_same_gradients(again.gradients, plain.gradients, tolerance=TOLERANCE)
    assert not any(module.training for module in lesson.shop.student.network.modules())


@pytest.mark.parametrize("spec", ["reverse_kl", pytest.param("k3", marks=pytest.mark.slow)])
def test_in_float32_gradients_agree_to_a_hundred_thousandth(spec: str) -> None:
    """The dtype that the loop trains in; both ways round differently."""
    lesson = set_lesson(double=False)
    objective = objectives.parse(spec)
    expected = plain_gradients(lesson, objective, use=loss_of(objective))
    found = learn(lesson, terms_of(spec))
    assert_same_gradients(found.gradients, expected, tolerance=1e-5)
