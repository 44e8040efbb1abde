"""Continuation advantage where it is known at every depth, its trend, and the likelihood of the student's text."""

import numpy as np
import polars as pl
import pytest
from letter_chains import LENGTH, STUDENT_GOOD, TEACHER_GOOD, build_writer, run_chains
from scipy import stats

from hydrometer.errors import SpecError
from hydrometer.probes.config import parse_depth
from hydrometer.probes.likelihood import describe_likelihood

COUNT, SAMPLES = 40, 3
DEPTHS = ("0", "1", "3", "50%", "75%")
KEPT = {"0": 0, "1": 1, "3": 3, "50%": 2, "75%": 3}


@pytest.fixture(scope="module")
def result():
    return run_chains("continuation", count=COUNT, samples=SAMPLES, depth=DEPTHS, low_density=0.5)


def test_accuracies_at_each_depth_are_those_of_the_world(result) -> None:
    at = {entry["depth"]: entry for entry in result.summary["teachers"]["firm"]["depths"]}
    assert list(at) == list(DEPTHS)
    for label, kept in KEPT.items():
        left = LENGTH - kept
        for name, good in (("teacher_accuracy", TEACHER_GOOD), ("student_accuracy", STUDENT_GOOD)):
            expected = STUDENT_GOOD**kept * good**left
            assert at[label][name]["value"] == pytest.approx(expected, abs=4 * np.sqrt(0.25 / COUNT))
        assert at[label]["advantage"]["value"] == pytest.approx(
            at[label]["teacher_accuracy"]["value"] - at[label]["student_accuracy"]["value"]
        )
        assert at[label]["prefix_tokens"] == kept


def test_trends_are_recomputed_from_the_table(result) -> None:
    trends = result.summary["teachers"]["firm"]["trends"]
    rates = (
        result.tables["responses"]
        .filter(pl.col("start").is_in(["0", "1", "3"]))
        .group_by("question_id", "start", "writer")
        .agg(pl.col("correct").mean())
        .pivot("writer", index=["question_id", "start"], values="correct")
    )
    advantage = (rates["firm"] - rates["student"]).round(9).to_numpy()  # 2/3 - 1/3 and 1/3 are a tie
    depth = rates["start"].cast(pl.Int64).to_numpy()
    assert trends["tokens"]["spearman"]["value"] == pytest.approx(stats.spearmanr(advantage, depth).statistic)
    change = advantage[depth == 3].mean() - advantage[depth == 0].mean()
    assert trends["tokens"]["change"]["value"] == pytest.approx(change)
    assert trends["tokens"]["change"]["high"] < 0.0
    assert trends["share"]["first"] == "50%" and trends["share"]["last"] == "75%"
    assert "it falls" in result.summary["teachers"]["firm"]["verdict"]


def test_a_depth_that_not_all_reach_is_told_and_the_trend_is_over_those_that_do() -> None:
    def uneven(prompt, response):
        length = LENGTH if bytes(prompt).decode()[-1] in "01234" else 2
        return np.array([0.0, 0.0, 1.0]) if len(response) >= length else np.array([0.8, 0.2, 0.0])

    student = build_writer(0.8, name="uneven")
    student.next_probs = uneven
    found = run_chains("continuation", count=20, samples=1, student=student, depth=("0", "3", "9", "50%"))
    told = found.summary["teachers"]["firm"]
    assert [(at["depth"], at["questions"]) for at in told["depths"]] == [("0", 20), ("3", 10), ("9", 0), ("50%", 20)]
    assert told["depths"][2]["advantage"] is None
    assert told["trends"] == {"tokens": None, "share": None}
    assert "too few depths" in told["verdict"]
    found = run_chains("continuation", count=20, samples=1, student=student, depth=("0", "3"))
    trend = found.summary["teachers"]["firm"]["trends"]["tokens"]
    assert (trend["change"]["n_questions"], trend["spearman"]["n_questions"]) == (10, 10)


def test_a_teacher_that_is_the_student_gains_nothing() -> None:
    twin = build_writer(STUDENT_GOOD, name="twin")
    found = run_chains("continuation", count=20, depth=("0", "2"), teacher={"twin": twin}).summary["teachers"]["twin"]
    assert [at["advantage"]["value"] for at in found["depths"]] == [0.0, 0.0]  # the same random numbers
    assert found["text"]["log_ratio"]["value"] == pytest.approx(0.0, abs=1e-7)


def test_likelihoods_are_the_writers_own(result) -> None:
    tokens = result.tables["tokens"]
    student = result.tables["responses"].filter(writer="student", start="prompt").sort("question_id")
    expected = [
        {0: -np.log(TEACHER_GOOD), 1: -np.log(1 - TEACHER_GOOD), 2: 0.0}[token]
        for ids in student["token_ids"].to_list()
        for token in ids
    ]
    nll = -tokens.sort("question_id", "position")["teacher_logprob"].to_numpy()
    assert nll == pytest.approx(np.array(expected), abs=1e-5)
    text = result.summary["teachers"]["firm"]["text"]
    assert text["teacher_nll"]["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    prefers = [token == 0 for ids in student["token_ids"].to_list() for token in ids]
    assert text["is_preferred"]["value"] == pytest.approx(np.mean(prefers))


def make_tokens(logprobs: list[list[float]]) -> pl.DataFrame:
    rows = [
        {
            "question_id": f"q{number}",
            "sample": 0,
            "position": position,
            "response_tokens": len(values),
            "teacher_logprob": value,
            "student_logprob": -1.0,
        }
        for number, values in enumerate(logprobs)
        for position, value in enumerate(values)
    ]
    return pl.DataFrame(rows).sample(fraction=1.0, shuffle=True, seed=0)


def test_low_density_and_positions_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    logprobs = [list(-rng.exponential(1.0, size=rng.integers(1, 40))) for _ in range(12)]
    found = describe_likelihood(make_tokens(logprobs), 0.9, 40)
    low = [-np.mean(values[: t + 1]) > 0.9 for values in logprobs for t in range(len(values))]
    assert found["is_low_density"]["value"] == pytest.approx(np.mean(low))
    for at in found["by_tokens"]:
        inside = [-v for values in logprobs for t, v in enumerate(values) if at["from"] <= t < (at["to"] or 1000)]
        assert at["teacher_nll"]["value"] == pytest.approx(np.mean(inside))
    assert [at["from"] for at in found["by_tokens"]] == [0, 16, 32]
    quarters: dict[int, list[list[float]]] = {}
    for number, values in enumerate(logprobs):
        for t, value in enumerate(values):
            quarters.setdefault(4 * t // len(values), [[] for _ in logprobs])[number].append(-value)
    for at in found["by_quarter"]:
        inside = [value for part in quarters[at["quarter"] - 1] for value in part]
        assert at["teacher_nll"]["value"] == pytest.approx(np.mean(inside))
    rises = [np.mean(b) - np.mean(a) for a, b in zip(quarters[0], quarters[3], strict=True) if a and b]
    assert found["last_minus_first"]["teacher_nll"]["value"] == pytest.approx(np.mean(rises))


@pytest.mark.parametrize(
    ("text", "length", "kept"),
    [("16", 17, 16), ("16", 16, None), ("0", 1, 0), ("0", 0, None), ("25%", 10, 2), ("99.9%", 10, 9), ("0%", 5, 0)],
)
def test_where_a_response_is_cut(text: str, length: int, kept: int | None) -> None:
    assert parse_depth(text).cut(length) == kept


@pytest.mark.parametrize("text", ["100%", "-1", "half", "", "1.5", "250%"])
def test_what_is_no_depth_is_quoted(text: str) -> None:
    with pytest.raises(SpecError, match=f"'{text}'"):
        run_chains("continuation", count=5, depth=("0", text))


def test_a_depth_given_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="--depth 2 is given twice"):
        run_chains("continuation", count=5, depth=("2", "50%", "2"))
