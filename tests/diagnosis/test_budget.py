"""Budgets: read from words, kept while sampling, raised on resume."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import hydrometer
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.errors import SpecError
from hydrometer.runs.budget import Budget, parse_budget
from hydrometer.runs.rounds import Cost

OPTIONS: dict[str, Any] = {
    "teacher": ["expert=bundled:expert"],
    "objective": ["reverse_kl"],
    "questions": 6,
    "rollouts": 6,
    "visits": 4,
    "min_visits": 2,
    "check": False,
}


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("200k tokens", Budget(200_000.0, "tokens")),
        ("1.5Mtokens", Budget(1_500_000.0, "tokens")),
        ("5000 rollouts", Budget(5000.0, "rollouts")),
        ("1 rollout", Budget(1.0, "rollouts")),
        (" 10 min ", Budget(10.0, "minutes")),
        ("90mins", Budget(90.0, "minutes")),
        ("2.5 Minutes", Budget(2.5, "minutes")),
    ],
)
def test_budgets_are_read_from_words(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "tokens", "0 tokens", "-5 tokens", "10 hours", "ten minutes", "1e5 tokens", "5"])
def test_what_is_no_budget_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(SpecError, match="expected tokens, rollouts or minutes") as caught:
        parse_budget(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_spent"),
    [
        ("1001 tokens", False),
        ("1k tokens", True),
        ("51 rollouts", False),
        ("50 rollouts", True),
        ("1.6 minutes", False),
        ("1.5 minutes", True),
    ],
)
def test_a_budget_is_spent_by_its_own_unit(text: str, is_spent: bool) -> None:
    assert parse_budget(text).is_spent(Cost(rollouts=50, generated_tokens=1000, wall_s=90.0)) is is_spent


def test_a_spent_budget_ends_the_branches_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    whole = hydrometer.diagnose(out=tmp_path / "whole", budget="1M rollouts", **OPTIONS)
    short = hydrometer.diagnose(out=tmp_path / "short", budget="60 rollouts", **OPTIONS)
    spent, full = short.summary["cost"]["rollouts"], whole.summary["cost"]["rollouts"]
    assert 60 <= spent < 60 + 2 * 128 < full
    assert any("The budget of 60 rollouts ended before" in warning for warning in short.summary["warnings"])
    assert not any("budget" in warning for warning in whole.summary["warnings"])
    again = hydrometer.diagnose(out=tmp_path / "short", budget="1M rollouts", resume=True, **OPTIONS)
    assert again.summary["cost"]["rollouts"] == full
    for name in ("rollouts", "candidates", "alignment"):
        assert again.table(name).equals(whole.table(name))


def test_a_misspelt_budget_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Budget '5 bananas'"):
        hydrometer.diagnose(out=tmp_path / "run", budget="5 bananas", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_choice_stops_when_it_is_decided_and_says_so_at_every_look(tmp_path: Path) -> None:
    options = OPTIONS | {
        "goal": "choose",
        "allocation": "fixed",
        "questions": 40,
        "visits": 4,
        "min_visits": 4,
        "rollouts": 16,
        "epsilon": 0.5,  # almost any leader is near enough
    }
    run = hydrometer.diagnose(out=tmp_path / "run", **options)
    looks = run.summary["looks"]
    assert looks[-1]["is_decided"]
    assert [look["is_decided"] for look in looks[:-1]] == [False] * (len(looks) - 1)
    measured = run.table("questions").height
    assert measured == looks[-1]["questions"] < 40
    last = looks[-1]
    chosen = run.summary["recommendation"]
    assert chosen is not None
    assert chosen["probability"] == last["probability"] >= last["needed"] > 0.95
    assert f"{chosen['teacher']} with {chosen['objective']}" == last["leader"]
    assert last["generated_tokens"] == run.summary["cost"]["generated_tokens"]
    # the questions that were measured are the first ones, and measured as in a run of just as many
    rest = {name: value for name, value in options.items() if name not in ("goal", "questions")}
    plain = hydrometer.diagnose(out=tmp_path / "plain", questions=measured, **rest)
    keys = ["question_id", "rollout_id", "position", "token_id"]
    visits = [r.table("candidates").select(*keys, "visits", "successes") for r in (run, plain)]
    same = visits[0].join(visits[1], on=[*keys, "visits", "successes"], how="semi")
    assert same.height >= 0.5 * visits[1].height  # only the sizes of rounds differ
    assert set(visits[0]["question_id"]) == set(visits[1]["question_id"])


def test_a_goal_decides_what_was_not_asked_for() -> None:
    chosen = DiagnoseConfig(goal="choose", visits=6).follow_goal().fit_allocation()
    assert (chosen.allocation, chosen.questions, chosen.paths, chosen.visits) == ("choose", 200, 16, 6)
    mapped = DiagnoseConfig(goal="map").follow_goal().fit_allocation()
    assert (mapped.allocation, mapped.questions, mapped.visits) == ("map", 20, 40)
    asked = DiagnoseConfig(goal="choose", allocation="fixed", questions=30).follow_goal().fit_allocation()
    assert (asked.allocation, asked.questions, asked.visits) == ("fixed", 30, 20)
    assert DiagnoseConfig().follow_goal().fit_allocation() == DiagnoseConfig()


def test_no_looks_without_a_choice_to_make(tmp_path: Path) -> None:
    run = hydrometer.diagnose(out=tmp_path / "run", **OPTIONS | {"questions": 9})
    assert run.summary["looks"] == []
    assert run.table("questions").height == 9
    assert isinstance(run.table("questions"), pl.DataFrame)
