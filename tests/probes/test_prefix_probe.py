"""Prefix corruption in a world whose accuracies are known, against counts made by hand."""

import numpy as np
import polars as pl
import pytest
from letter_chains import LENGTH, STUDENT_GOOD, TEACHER_GOOD, build_writer, run_chains
from scipy import stats

from hydrometer.errors import SpecError

COUNT = 160


@pytest.fixture(scope="module")
def result():
    return run_chains("prefix", count=COUNT)


def outcomes(result, writer: str, start: str) -> dict[str, dict]:
    rows = result.tables["responses"].filter(writer=writer, start=start).to_dicts()
    return {row["question_id"]: row for row in rows}


def test_accuracies_are_those_of_the_world(result) -> None:
    found = result.summary["teachers"]["firm"]
    own = TEACHER_GOOD**LENGTH
    cuts = range(1, LENGTH)
    continued = np.mean([STUDENT_GOOD**cut * TEACHER_GOOD ** (LENGTH - cut) for cut in cuts])
    for name, expected in (("own_accuracy", own), ("continued_accuracy", continued)):
        assert found[name]["value"] == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / COUNT))
    assert found["difference"]["value"] == pytest.approx(
        found["own_accuracy"]["value"] - found["continued_accuracy"]["value"]
    )
    assert "mislead firm" in found["verdict"]


def test_counts_and_mcnemar_are_recomputed_from_the_table(result) -> None:
    found = result.summary["teachers"]["firm"]
    own, cut = outcomes(result, "firm", "prompt"), outcomes(result, "firm", "cut")
    assert own.keys() == cut.keys()
    lost = sum(own[q]["correct"] and not cut[q]["correct"] for q in own)
    gained = sum(cut[q]["correct"] and not own[q]["correct"] for q in own)
    assert (found["right_to_wrong"], found["wrong_to_right"]) == (lost, gained)
    assert found["mcnemar_p"] == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)
    unread = [sum(not rows[q]["parsed"] for q in own) / COUNT for rows in (own, cut)]
    assert [1 - found[f"{arm}_parsed"]["value"] for arm in ("own", "continued")] == pytest.approx(unread)
    assert unread[0] < unread[1]


def test_what_is_continued_is_the_students_response_cut_inside(result) -> None:
    student, cut = outcomes(result, "student", "prompt"), outcomes(result, "firm", "cut")
    lengths = []
    for question_id, row in cut.items():
        kept = row["prefix_tokens"]
        assert row["token_ids"][:kept] == student[question_id]["token_ids"][:kept]
        lengths.append(kept)
    counts = np.bincount(lengths, minlength=LENGTH)[1:]
    assert counts.sum() == COUNT and len(counts) == LENGTH - 1
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_cut_depends_on_seed_and_question_alone() -> None:
    def cuts(**options) -> list[int]:
        table = run_chains("prefix", count=20, **options).tables["responses"]
        return table.filter(writer="firm", start="cut").sort("question_id")["prefix_tokens"].to_list()

    first = cuts(seed=1)
    assert cuts(seed=1, student=build_writer(0.3, name="other")) == first
    assert cuts(seed=1, questions=10) == first[:10]
    assert cuts(seed=2) != first


def test_greedy_writers_take_the_likeliest_letter() -> None:
    found = run_chains("prefix", count=8, greedy=True).summary["teachers"]["firm"]
    assert (found["own_accuracy"]["value"], found["continued_accuracy"]["value"]) == (1.0, 1.0)
    assert found["mcnemar_p"] is None
    assert "No effect" in found["verdict"]
    misled = run_chains("prefix", count=8, greedy=True, student=build_writer(0.2, name="bad"))
    assert misled.summary["teachers"]["firm"]["right_to_wrong"] == 8


def test_responses_that_cannot_be_cut_are_left_out_and_told() -> None:
    def brief(prompt, response):
        one = bytes(prompt).decode().endswith(("0", "1", "2"))
        return np.array([0.0, 0.0, 1.0]) if len(response) >= (1 if one else 3) else np.array([0.9, 0.1, 0.0])

    student = build_writer(0.9, name="brief")
    student.next_probs = brief
    result = run_chains("prefix", count=20, student=student)
    assert result.summary["uncut"] == 6
    assert result.summary["teachers"]["firm"]["questions"] == 14
    assert result.summary["warnings"][0] == "6 responses are too short to be cut and are left out."
    table = result.tables["responses"].filter(writer="firm")
    assert table.group_by("question_id").len().filter(pl.col("len") != 2).is_empty()
    student.next_probs = lambda prompt, response: np.array([0.0, 0.0, 1.0])
    with pytest.raises(SpecError, match="'firm' has to be skipped for every question"):
        run_chains("prefix", count=5, student=student)


def test_a_warning_names_the_teacher_as_the_table_does_and_not_the_model_that_several_share() -> None:
    endless = build_writer(0.5, name="shared")
    endless.next_probs = lambda prompt, response: np.array([0.5, 0.5, 0.0])
    result = run_chains("prefix", count=6, teacher={"first": endless, "second": endless})
    cut = [text for text in result.summary["warnings"] if "hit the length limit" in text]
    assert [text.split(" hit ")[0] for text in cut] == ["12 of 12 responses of first", "12 of 12 responses of second"]
