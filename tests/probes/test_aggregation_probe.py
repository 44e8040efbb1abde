"""Which contexts a question has, with which weights, and -log Z of a scripted teacher in closed form."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

import hydrometer
from hydrometer.errors import SpecError
from hydrometer.probes.run import Probe
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score

TOKENS = ("y", "n", " as", " well", "<eos>")
RATES = (0.5, 0.3, 0.7, 1.0)
SURE = 0.9
"""Probability with which a model says what it is told."""


def next_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """A letter, one of two words, the end. What is shown decides the letter, a rule the word."""
    if len(response) == 1:
        as_ = 0.5 + 0.4 * ("Say as" in bytes(prompt).decode()) - 0.4 * ("Say well" in bytes(prompt).decode())
        return np.array([0.0, 0.0, as_, 1.0 - as_, 0.0])
    if response:
        return np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    text = bytes(prompt).decode()
    yes = RATES[int(text.split("coin ")[1].split()[0]) % len(RATES)]
    for told, chance in (("is y", SURE), ("is n", 1.0 - SURE), (":\ny", SURE), (":\nn", 1.0 - SURE)):
        if told in text:
            yes = chance
            break
    return np.array([yes, 1.0 - yes, 0.0, 0.0, 0.0])


class ToldTask:
    """Right is y."""

    name = "told"

    def __init__(self, *, wrong_answer: str | None = "n"):
        self.wrong_answer = wrong_answer

    def questions(self, split: str) -> Sequence[Question]:
        first = Question("q00", self.name, (), "y", solution="y well", wrong_answer=self.wrong_answer)
        return [replace(first, question_id=f"q{i:02d}", prompt=(Message("user", f"coin {i} ?"),)) for i in range(12)]

    def verify(self, question: Question, response: str) -> Grades:
        right = response.startswith(question.answer)
        return Grades.same(Score(float(right), right, True))


def run_told(teacher: str | Sequence[str], **options: Any) -> Probe:
    student = ScriptedModel(TOKENS, next_probs, name="told")
    named: dict[str, Any] = {"task": ToldTask(), "student": student, "demos": 6, "max_response_tokens": 4}
    return hydrometer.probe("aggregation", teacher=teacher, **(named | options))


def counts_of_right(result: Probe) -> dict[str, int]:
    demos = result.tables["responses"].filter(start="demo")
    return dict(demos.group_by("question_id").agg(pl.col("correct").sum()).iter_rows())


def gap(weight: float, first: float, second: float) -> float:
    """-log of the normaliser of the geometric mean of two Bernoulli distributions."""
    return -np.log(sum(a**weight * b ** (1 - weight) for a, b in ((first, second), (1 - first, 1 - second))))


def test_an_answer_is_weighted_by_the_students_belief() -> None:
    result = run_told("a=self+answer")
    right = counts_of_right(result)
    table = result.tables["disagreement"]
    assert set(right.values()) >= {6, 3}
    for row in table.to_dicts():
        c = right[row["question_id"]]
        assert row["contexts"] == (1 if c in (0, 6) else 2)
        expected = gap(c / 6, SURE, 1 - SURE) if row["position"] == 0 else 0.0
        assert row["disagreement"] == pytest.approx(expected, abs=1e-6)
    found = result.summary["teachers"]["a"]
    assert found["disagreement"]["value"] == pytest.approx(table["disagreement"].mean())
    assert found["student_kl"]["value"] == pytest.approx(table["student_kl"].mean())
    assert found["share_lost"] == pytest.approx(table["disagreement"].sum() / table["student_kl"].sum())
    assert found["learnable"]["value"] == pytest.approx(found["student_kl"]["value"] - found["disagreement"]["value"])
    assert found["one_context"] == sum(c in (0, 6) for c in right.values())
    assert "contradicts itself" in found["verdict"]


def test_the_students_kl_is_the_mean_over_contexts() -> None:
    result = run_told("a=self+answer")
    right = counts_of_right(result)
    for row in result.tables["disagreement"].filter(position=0).to_dicts():
        w, yes = right[row["question_id"]] / 6, RATES[int(row["question_id"][1:]) % len(RATES)]
        p = np.array([yes, 1 - yes])
        q = [np.array([SURE, 1 - SURE]), np.array([1 - SURE, SURE])]
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = [np.nansum(p * np.log(p / one)) for one in q]
        assert row["student_kl"] == pytest.approx(w * kl[0] + (1 - w) * kl[1], abs=1e-5)


def test_solutions_are_the_students_own_rollouts() -> None:
    result = run_told("s=self+solution")
    responses = result.tables["responses"]
    analysed = {row["question_id"]: row["text"] for row in responses.filter(start="prompt").to_dicts()}
    shown: dict[str, list[str]] = {question_id: [] for question_id in analysed}
    for row in responses.filter(start="demo").to_dicts():
        if row["text"] != analysed[row["question_id"]]:
            shown[row["question_id"]].append(row["text"])
    found = {row["question_id"]: row for row in result.tables["disagreement"].filter(position=0).to_dicts()}
    assert found.keys() == {question_id for question_id, texts in shown.items() if len(texts) >= 2}
    for question_id, row in found.items():
        texts = shown[question_id]
        weight = sum(text.startswith("y") for text in texts) / len(texts)
        assert row["contexts"] == len(set(texts))
        assert row["disagreement"] == pytest.approx(gap(weight, SURE, 1 - SURE), abs=1e-6)
    skipped = len(analysed) - len(found)
    assert result.summary["teachers"]["s"]["skipped"] == skipped


def test_demonstrations_are_right_ones_and_agree_here() -> None:
    result = run_told(["d=self+correct_demo", "b=self+correct_wrong_demo"])
    table = result.tables["disagreement"].filter(teacher="d")
    assert table["disagreement"].max() == pytest.approx(0.0, abs=1e-6)  # whichever right one is shown, y it says
    assert table["contexts"].max() == 2  # "y as" and "y well"
    found = result.summary["teachers"]["d"]
    assert found["questions"] + found["skipped"] == 12
    assert "nearly the same" in found["verdict"] or found["contexts"] == 1.0
    assert result.summary["teachers"]["b"]["questions"] < found["questions"]


def test_a_shared_rule_is_zero_and_several_rules_are_not() -> None:
    one = run_told("r=self+rule:Say as")
    assert one.tables["disagreement"]["disagreement"].max() == pytest.approx(0.0, abs=1e-9)
    assert one.tables["responses"].filter(start="demo").is_empty()
    assert "the same context" in one.summary["teachers"]["r"]["verdict"]
    two = run_told("r=self+rule:Say as", rule=("Say well", "Say as"))
    words = two.tables["disagreement"].filter(position=1)["disagreement"].to_numpy()
    assert words == pytest.approx(np.full(12, gap(2 / 3, 0.9, 0.1)), abs=1e-6)
    assert two.summary["teachers"]["r"]["contexts"] == 2.0


def test_contexts_without_content_are_one() -> None:
    result = run_told(["self", "self+empty:answer", "self+wrong_answer", "self+conciseness"])
    assert all(found["contexts"] == 1.0 for found in result.summary["teachers"].values())
    assert result.tables["disagreement"]["disagreement"].max() == pytest.approx(0.0, abs=1e-9)


def test_a_question_without_a_wrong_answer_is_skipped_only_where_it_is_needed() -> None:
    result = run_told("a=self+answer", task=ToldTask(wrong_answer=None))
    right = counts_of_right(result)
    assert result.summary["teachers"]["a"]["questions"] == sum(c == 6 for c in right.values())
    assert any("the question has no wrong answer" in warning for warning in result.summary["warnings"])


def test_contexts_that_others_write_are_refused() -> None:
    with pytest.raises(SpecError, match="'summary' needs texts that another model writes"):
        run_told("self+summary")
    with pytest.raises(SpecError, match="Name the context itself"):
        run_told("self+aggregate:answer")
    with pytest.raises(SpecError, match="has to be skipped for every question"):
        run_told("self+correct_wrong_demo", demos=2)
