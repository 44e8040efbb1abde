"""Weights of tokens: by outcome, by what both models say, by a diagnosis; and what they do to the gradient."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lessons import Lesson, assert_same_gradients, learn, response_logits, set_lesson, terms_of

from hydrometer.alignment.advice import FEATURES
from hydrometer.artifacts import build_table, write_table
from hydrometer.errors import SpecError
from hydrometer.training.gradient import look_ahead
from hydrometer.training.weighing import Signs, build_weigher
from hydrometer.types import Rollout

K = 1


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return set_lesson(metrics_k=K, temperature=0.9)


def rollout(tokens: Sequence[int], *, correct: bool, question: str = "q") -> Rollout:
    return Rollout(question, 0, "base", tuple(tokens), "", float(correct), correct, False)


def signs(kl: Sequence[float], overlap: Sequence[bool] | None = None) -> Signs:
    return Signs(np.array(kl, float), np.full(len(kl), 0.5), np.array(overlap or [True] * len(kl)))


def test_what_both_models_say_is_read_from_the_warped_distributions(lesson: Lesson) -> None:
    """Against logits of plain network calls: KL, entropy, and whether the token is in both top-k."""
    found = look_ahead(lesson.shop.student, lesson.shop.settings, lesson.exercises)
    responses = [exercise.rollout.token_ids for exercise in lesson.exercises]
    models = (lesson.shop.student, lesson.shop.settings.seats["expert"].model)
    with torch.no_grad():
        prompts = [exercise.prompt_ids for exercise in lesson.exercises]
        both = [[(x / 0.9).log_softmax(-1) for x in response_logits(model, prompts, responses)] for model in models]
    for sign, response, p, q in zip(found, responses, *both, strict=True):
        np.testing.assert_allclose(sign.reverse_kl, (p.exp() * (p - q)).sum(-1).clamp(min=0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(sign.student_entropy, -(p.exp() * p).sum(-1), rtol=1e-4, atol=1e-6)
        tops = [logprobs.topk(K).indices.tolist() for logprobs in (p, q)]
        assert sign.is_overlap.tolist() == [
            token in mine and token in theirs for token, mine, theirs in zip(response, *tops, strict=True)
        ]


@pytest.mark.parametrize("rule", ["incorrect", "overlap", "kl_above:0.7"])
def test_weights_multiply_each_tokens_loss_and_leave_the_divisor(rule: str, lesson: Lesson) -> None:
    """The gradient is linear in the weights: a rule's and the complement's add up to the unweighted one."""
    found = look_ahead(lesson.shop.student, lesson.shop.settings, lesson.exercises)
    weighed = build_weigher(rule).weigh([exercise.rollout for exercise in lesson.exercises], found)
    share = weighed.metrics["weighted_share"]
    assert share is not None and 0.05 < share < 0.95
    for spec in ("reverse_kl", "k2"):
        parts = [
            learn(lesson, terms_of(spec), weights=weights).gradients
            for weights in (weighed.weights, [1.0 - weight for weight in weighed.weights])
        ]
        whole = learn(lesson, terms_of(spec)).gradients
        added = {name: parts[0][name] + parts[1][name] for name in whole}
        assert_same_gradients(added, whole, tolerance=1e-6)
        assert max(float((parts[0][name] - whole[name]).abs().max()) for name in whole) > 1e-4


def test_rules_by_outcome_and_by_both_models() -> None:
    rollouts = [rollout([1, 2], correct=True), rollout([3, 4, 5], correct=False)]
    told = [signs([0.1, 0.4], [True, False]), signs([0.2, 0.3, 0.9], [False, False, True])]
    expected = {
        "all": [[1, 1], [1, 1, 1]],
        "correct": [[1, 1], [0, 0, 0]],
        "incorrect": [[0, 0], [1, 1, 1]],
        "overlap": [[1, 0], [0, 0, 1]],
        "non_overlap": [[0, 1], [1, 1, 0]],
        "kl_above:0.5": [[0, 1], [0, 0, 1]],
        "kl_above:0.75": [[0, 0], [0, 0, 1]],
    }
    for rule, weights in expected.items():
        found = build_weigher(rule).weigh(rollouts, told)
        assert [weight.tolist() for weight in found.weights] == weights, rule
        assert found.metrics["weighted_share"] == pytest.approx(sum(map(sum, weights)) / 5)


def test_a_quantile_is_of_the_tokens_that_a_teacher_scores() -> None:
    unscored = Signs(np.full(3, np.nan), np.full(3, np.nan), np.zeros(3, bool))
    rollouts = [rollout([1, 2, 3, 4], correct=True), rollout([3, 4, 5], correct=False)]
    found = build_weigher("kl_above:0.5").weigh(rollouts, [signs([0.1, 0.2, 0.3, 0.4]), unscored])
    assert [weight.tolist() for weight in found.weights] == [[0, 0, 1, 1], [0, 0, 0]]


def write_diagnosis(folder: Path, *, advised: bool = True, coefficient: float = 1.0) -> Path:
    """A diagnosis that knows two prefixes of question `q`, and a rule by the path's outcome alone."""
    folder.mkdir()
    rows = [
        {
            "question_id": "q",
            "rollout_id": 0,
            "position": len(prefix),
            "continuation": "student",
            "teacher": "expert",
            "objective": "reverse_kl",
            "prefix_ids": prefix,
            "token_id": 0,
            "advice": advice,
            "weight": weight,
            "predicted_signal": None,
            "predicted_error": None,
        }
        for prefix, advice, weight in (([], "drop", 0.0), ([7], "keep", 1.0), ([7, 8], "undecided", 0.5))
    ]
    write_table(folder / "advice.parquet", build_table("advice", rows))
    rule = {
        "features": list(FEATURES),
        "mean": [0.5, 0.0, 0.0, 0.0, 0.0],
        "scale": [0.5, None, None, None, None],
        "intercept": 0.0,
        "coefficients": [coefficient, 0.0, 0.0, 0.0, 0.0],
        "covariance": (0.01 * np.eye(6)).tolist(),
    }
    entry = {"advised": advised, "rule": rule, "sentence": "nothing is separated"}
    (folder / "summary.json").write_text(json.dumps({"analyses": {"advice": entry}}))
    return folder


def test_a_diagnosis_is_followed_by_prefix_and_elsewhere_by_its_rule(tmp_path: Path) -> None:
    """The rule expects +1 on correct paths and -1 on incorrect ones, with an error of 0.14."""
    weigher = build_weigher(str(write_diagnosis(tmp_path / "diagnosis")))
    assert weigher.needs_signs
    rollouts = [
        rollout([7, 8, 9], correct=False),
        rollout([7, 8, 9], correct=True),
        rollout([5, 8], correct=False),
        rollout([7, 8], correct=False, question="other"),
    ]
    found = weigher.weigh(rollouts, [signs([0.1] * len(one.token_ids)) for one in rollouts])
    assert [weight.tolist() for weight in found.weights] == [[0, 1, 0], [0, 1, 1], [0, 0], [0, 0]]
    assert found.metrics["advice_matched_share"] == pytest.approx(5 / 10)
    assert found.metrics["weighted_share"] == pytest.approx(3 / 10)


def test_a_rule_within_its_own_error_of_nothing_keeps_the_token(tmp_path: Path) -> None:
    weigher = build_weigher(str(write_diagnosis(tmp_path / "diagnosis", coefficient=0.1)))
    found = weigher.weigh([rollout([5, 6], correct=False)], [signs([0.1, 0.1])])
    assert found.weights[0].tolist() == [0.0, 1.0]


def test_a_diagnosis_without_advice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="advises no choice of tokens: nothing is separated"):
        build_weigher(str(write_diagnosis(tmp_path / "diagnosis", advised=False)))


def test_rules_are_thinned_to_one_number_of_tokens() -> None:
    """3 of 10 tokens each, always of those that the rule takes; no fewer responses than it takes from."""
    rollouts = [
        Rollout("q", place, "base", tuple(range(5)), "", float(place == 0), place == 0, False) for place in (0, 1)
    ]
    whole = build_weigher("incorrect").weigh(rollouts, None)
    found = build_weigher("incorrect@0.3").weigh(rollouts, None)
    assert [weights.sum() for weights in found.weights] == [0.0, 3.0]
    assert found.metrics["weighted_share"] == pytest.approx(0.3)
    assert found.metrics["rule_share"] == pytest.approx(0.5)
    assert all((mine <= theirs).all() for mine, theirs in zip(found.weights, whole.weights, strict=True))
    again = build_weigher("incorrect@0.3").weigh(rollouts, None)
    np.testing.assert_array_equal(found.weights[1], again.weights[1])


def test_a_rule_that_takes_fewer_tokens_keeps_them_all() -> None:
    rollouts = [rollout(range(5), correct=True), rollout(range(15), correct=False, question="r")]
    found = build_weigher("correct@0.6").weigh(rollouts, None)
    assert [weights.sum() for weights in found.weights] == [5.0, 0.0]
    none = build_weigher("correct@0.6").weigh(rollouts[1:], None)
    assert none.weights[0].sum() == 0.0


def test_random_tokens_are_a_fair_part() -> None:
    """30 % of the first and of the second halves of 400 responses."""
    rollouts = [rollout(range(20), correct=True, question=f"q{place}") for place in range(400)]
    halves = np.stack(build_weigher("all@0.3").weigh(rollouts, None).weights).reshape(400, 2, 10).mean((0, 2))
    np.testing.assert_allclose(halves, 0.3, atol=0.02)


@pytest.mark.parametrize("text", ["all@", "all@2", "all@some", "nothing@0.5"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--weights"):
        build_weigher(text)
