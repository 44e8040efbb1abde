"""Overlap and new knowledge against dynamics.aggregate, counting, and two models that are one."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from letter_chains import build_writer, run_chains

from hydrometer.dynamics import aggregate, compute_token_stats, join_stats
from hydrometer.probes import pattern
from hydrometer.types import Rollout

COUNT, SAMPLES = 12, 4


@pytest.fixture(scope="module")
def result():
    teacher = {"firm": build_writer(0.98, name="firm"), "twin": build_writer(0.8, name="twin")}
    return run_chains("pattern", count=COUNT, samples=SAMPLES, k=2, teacher=teacher)


def test_a_model_and_its_twin_differ_in_nothing(result) -> None:
    found = result.summary["teachers"]["twin"]
    expected = {"overlap_ratio": 1.0, "student_overlap_mass": 1.0, "reverse_kl": 0.0, "entropy_gap": 0.0}
    for name, value in expected.items():
        assert found["pattern"][name]["value"] == pytest.approx(value, abs=1e-6)
    assert found["accuracy_difference"]["value"] == 0.0
    for at in found["pass_at"].values():
        assert (at["difference"]["value"], at["difference"]["reason"]) == (0.0, "all_differences_zero")
        assert at["gained"]["value"] == at["lost"]["value"]
    assert found["pass_at"]["1"]["gained"]["value"] > 0.0  # equal models gain by chance, which is why it is not judged
    assert "writes like the student (" in found["verdict"]
    assert "no new knowledge" in found["verdict"]


def test_means_are_those_of_a_training_step(result) -> None:
    student, teacher = build_writer(0.8, name="s"), build_writer(0.98, name="t")
    table = result.tables["responses"].filter(writer="student").sort("question_id", "sample")
    rollouts, stats = [], []
    for row in table.to_dicts():
        ids = tuple(row["token_ids"])
        rollouts.append(Rollout(row["question_id"], row["sample"], "base", ids, row["text"], 1.0, True, False))
        p, q = (next(model.score((1,), ids)).logits.log_softmax(-1) for model in (student, teacher))
        stats.append(compute_token_stats(p, q, pl.Series(ids).to_torch(), k=2))
    step = aggregate(join_stats(stats), rollouts, bin_starts=(0,))
    found = result.summary["teachers"]["firm"]["pattern"]
    for name, entry in found.items():
        assert entry["value"] == pytest.approx(step[name], abs=1e-5), name
        assert entry["low"] <= entry["value"] + 1e-9
        assert entry["n_questions"] == COUNT


def test_the_interval_deletes_one_question_at_a_time(result) -> None:
    tokens = result.tables["tokens"].filter(teacher="firm")
    questions = tokens["question_id"].unique().sort().to_list()
    left_out = [tokens.filter(pl.col("question_id") != one)["teacher_logprob"].mean() for one in questions]
    error = np.sqrt((COUNT - 1) / COUNT * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    entry = result.summary["teachers"]["firm"]["pattern"]["teacher_logprob"]
    width = entry["high"] - entry["low"]
    assert 2 * 2.20 * error <= width * 1.001  # t with 11 degrees of freedom, or fewer where questions are uneven
    assert width <= 2 * 4.31 * error


def test_new_knowledge_is_counted_over_all_subsets(result) -> None:
    table = result.tables["responses"]
    right = {
        writer: [
            part["correct"].to_list()
            for _, part in table.filter(writer=writer).group_by("question_id", maintain_order=True)
        ]
        for writer in ("firm", "student")
    }
    found = result.summary["teachers"]["firm"]
    for size in (1, 2, 4):
        passed = {
            writer: [np.mean([any(chosen) for chosen in combinations(outcomes, size)]) for outcomes in rows]
            for writer, rows in right.items()
        }
        pairs = list(zip(passed["firm"], passed["student"], strict=True))
        at = found["pass_at"][str(size)]
        assert at["gained"]["value"] == pytest.approx(np.mean([t * (1 - s) for t, s in pairs]))
        assert at["lost"]["value"] == pytest.approx(np.mean([s * (1 - t) for t, s in pairs]))
        assert at["difference"]["value"] == pytest.approx(np.mean([t - s for t, s in pairs]))
    assert found["only_teacher_solves"] == sum(
        any(t) and not any(s) for t, s in zip(right["firm"], right["student"], strict=True)
    )


def entry(value: float, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("overlap", "masses", "difference", "words"),
    [
        (0.9, (0.99, 0.97), (0.2, 0.1, 0.3), ("writes like the student (", "solves what the student does not")),
        (0.4, (0.99, 0.97), (0.0, -0.1, 0.1), ("where it matters", "no new knowledge is separated")),
        (0.9, (0.99, 0.94), (-0.2, -0.3, -0.1), ("another thinking pattern", "solves less than the student")),
        (0.3, (0.6, 0.99), (0.2, None, None), ("shared mass 0.600", "no new knowledge is separated")),
    ],
)
def test_the_verdict_follows_masses_and_pass_rates(overlap, masses, difference, words) -> None:
    said = {
        "pattern": {
            "overlap_ratio": entry(overlap),
            "student_overlap_mass": entry(masses[0]),
            "teacher_overlap_mass": entry(masses[1]),
        },
        "pass_at": {"4": {"difference": entry(*difference), "teacher": entry(0.5), "student": entry(0.4)}},
    }
    verdict = pattern._judge("firm", said, 4)
    assert all(word in verdict for word in words)
