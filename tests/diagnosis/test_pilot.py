"""Pilots: which questions are measured, and that none is piloted that nobody needs."""

from pathlib import Path

import numpy as np
import pytest
from scripted_worlds import TOKENS, LetterTask, build_planted, run_world, student_probs

from hydrometer.artifacts import read_journal, read_json
from hydrometer.errors import SpecError
from hydrometer.sampling import ScriptedModel

LOW, HIGH = 0.3, 0.7
CHOOSING = {
    "goal": "choose",
    "teacher": {"towards": build_planted(4.0), "away": build_planted(-4.0)},
    "objective": ["reverse_kl"],
    "questions": 30,
    "pilot": 6,
    "pilot_low": LOW,
    "pilot_high": HIGH,
    "seed": 3,
}


def fit_of(seen: list[tuple[str, float]]) -> list[str]:
    return [question for question, rate in seen if LOW <= rate <= HIGH]


def piloted(folder: Path) -> list[tuple[str, float]]:
    """Question ids in the order of the pilot, with their success rates."""
    records = [record for record in read_journal(folder / "journal.jsonl")[0] if record["round"] == "pilot"]
    starts = [record["key"][0] for record in records]
    assert starts == [sum(record["key"][1] for record in records[:i]) for i in range(len(records))]
    rates = [correct / 6 for record in records for correct in record["correct"]]
    return [(f"q{number:02d}", rate) for number, rate in enumerate(rates)]


def build_tilted() -> ScriptedModel:
    """A teacher whose directions have nothing to do with success."""

    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        tilt = np.random.default_rng([7, *prompt, *response]).normal(0.0, 0.5, len(TOKENS))
        weights = student_probs(prompt, response) * np.exp(tilt)
        return weights / weights.sum()

    return ScriptedModel(TOKENS, probs, name="tilted")


def test_a_run_that_has_chosen_has_piloted_little_more_than_it_measured(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **CHOOSING, task=LetterTask(99))
    assert run.summary["looks"][-1]["is_decided"]
    seen = piloted(tmp_path / "run")
    fit = fit_of(seen)
    used = run.summary["looks"][-1]["questions"]
    assert used < 30
    assert sorted(run.table("rollouts")["question_id"].unique()) == sorted(fit[:used])
    assert len(fit) - used <= 2 * used  # not the thirty that it might have needed
    counts = read_json(tmp_path / "run" / "run.json")["questions"]
    assert (counts["piloted"], counts["fit_but_not_needed"]) == (len(seen), len(fit) - used)
    assert counts["left_out_by_pilot"] == len(seen) - len(fit)


def test_a_look_for_which_no_question_is_left_is_not_taken(tmp_path: Path) -> None:
    options = CHOOSING | {"teacher": {"tilted": build_tilted()}, "epsilon": 1e-6}
    run = run_world(tmp_path / "run", **options, task=LetterTask(40))
    fit = fit_of(piloted(tmp_path / "run"))
    looks = [look["questions"] for look in run.summary["looks"]]
    assert looks == sorted(set(looks))
    assert len(looks) > 1
    assert looks[-1] == len(fit) < 30
    assert not run.summary["looks"][-1]["is_decided"]


def test_a_pilot_that_finds_nothing_is_the_error(tmp_path: Path) -> None:
    options = CHOOSING | {"pilot_low": 0.999, "pilot_high": 1.0, "pilot": 64}
    with pytest.raises(SpecError, match="None of the 12 questions of letters has a pilot success rate"):
        run_world(tmp_path / "run", **options, task=LetterTask(12))
