"""Responses of a scripted and of a real tiny model: exact outcomes, seeds of their own, batches of any size."""

from typing import Any

import numpy as np
import pytest
from coin_world import LIMIT, SHORT, TOKENS, CoinTask, build_coin, rate
from tiny_models import tiny_model

from hydrometer.evaluation.evaluate import build_evaluation_table, evaluate_model
from hydrometer.models import Warp
from hydrometer.sampling import SamplingSettings, ScriptedModel, build_sampler, rollout_seed, uniforms
from hydrometer.types import Question


def ask_coin(questions: list[Question], model: ScriptedModel | None = None, **options: Any) -> list[Any]:
    model = model or build_coin()
    sampler = model.sampler(SamplingSettings(LIMIT, options.pop("warp", Warp())))
    named = {"samples": 5, "seed": 0, "max_response_tokens": LIMIT} | options
    return evaluate_model(model, sampler, CoinTask(), questions, **named)


def test_every_response_is_the_inverse_transform_of_its_own_numbers() -> None:
    questions = list(CoinTask().questions("test"))
    found = ask_coin(questions, seed=11, grading="relaxed")
    assert [(r.question_id, r.sample) for r in found] == [(q.question_id, i) for q in questions for i in range(5)]
    for number, response in enumerate(found):
        drawn = uniforms(rollout_seed(11, f"evaluate\x1f{response.question_id}", response.sample), LIMIT)
        letters = ["y" if drawn[0] < rate(number // 5) else "n"]
        for value in drawn[1:]:
            letters.append(TOKENS[int(np.searchsorted(np.cumsum([0.1, 0.3, 0.6]), value, side="right"))])
            if letters[-1] == "<eos>":
                break
        assert response.tokens == len(letters)
        assert response.truncated == (letters[-1] != "<eos>")
        assert response.text == "".join(letters).removesuffix("<eos>")
        assert response.correct == response.correct_relaxed == (letters[0] == "y")
        assert response.correct_strict == (letters[0] == "y" and len(response.text) < SHORT)
        assert response.parsed == ("y" in letters)


def test_accuracy_goes_to_the_known_rate() -> None:
    found = ask_coin(list(CoinTask(8).questions("test")), samples=200, grading="relaxed")
    for number in range(8):
        share = np.mean([r.correct for r in found[200 * number : 200 * (number + 1)]])
        assert share == pytest.approx(rate(number), abs=4 * (rate(number) * (1 - rate(number)) / 200) ** 0.5)


def test_a_response_depends_on_its_question_and_number_alone() -> None:
    questions = list(CoinTask().questions("test"))
    everything = {(r.question_id, r.sample): r for r in ask_coin(questions, samples=7)}
    fewer = ask_coin(questions[8:3:-2], samples=3)
    assert len(fewer) == 9
    assert all(everything[r.question_id, r.sample] == r for r in fewer)
    assert ask_coin(questions, seed=1) != ask_coin(questions, seed=0)


def test_two_models_see_the_same_random_numbers() -> None:
    """A model that is better by a shift is right wherever the other one is: common random numbers."""
    questions = list(CoinTask().questions("test"))
    worse, better = (ask_coin(questions, build_coin(shift), grading="relaxed", samples=40) for shift in (0.0, 0.1))
    pairs = [(w.correct, b.correct) for w, b in zip(worse, better, strict=True)]
    assert (True, False) not in pairs
    assert (False, True) in pairs


def test_rounds_of_any_size_give_the_same_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = list(CoinTask().questions("test"))
    whole = ask_coin(questions)
    monkeypatch.setattr("hydrometer.runs.drawing.round_size", lambda model, limit: 7)
    assert ask_coin(questions) == whole


def test_the_table_names_step_and_model_and_is_sorted() -> None:
    responses = ask_coin(list(CoinTask(3).questions("test")), samples=2)
    table = build_evaluation_table(reversed(responses), step=40, name="student")
    assert table.columns[:6] == ["step", "model", "question_id", "sample", "correct", "tokens"]
    assert table.select("step", "model").unique().rows() == [(40, "student")]
    assert table["sample"].to_list() == [0, 1] * 3
    assert table["text"].to_list() == [r.text for r in responses]


def test_a_real_model_answers_alike_alone_and_in_any_batch() -> None:
    model = tiny_model()
    questions = list(CoinTask(5).questions("test"))
    settings = SamplingSettings(12)
    found = [
        evaluate_model(
            model,
            build_sampler(model, settings, batch_size=size),
            CoinTask(),
            questions,
            samples=4,
            seed=2,
            max_response_tokens=12,
        )
        for size in (1, 3, 256)
    ]
    assert found[0] == found[1] == found[2]
    assert len({response.text for response in found[0]}) > 10
