"""`train --score-cache`: teachers that stay as they are, and only those, and the same weights as without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import read_metrics, read_weights, run_short

from hydrometer.results import Training

TEACHERS: dict[str, Any] = {
    "teacher": ["expert=bundled:expert", "self+answer"],
    "learning_rate": 0.03,  # after a step the student writes other responses
    "max_response_tokens": 24,
}


def assert_same_run(one: Training, other: Training) -> None:
    assert read_metrics(one.folder) == read_metrics(other.folder)
    first, second = read_weights(one.folder), read_weights(other.folder)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def counts(run: Training) -> tuple[int, int]:
    return run.summary["cost"]["cached_tokens"], run.summary["cost"]["scored_tokens"]


@pytest.fixture(scope="module", params=[0, 4], ids=["full", "lora"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    folder = tmp_path_factory.mktemp("runs")
    asked = TEACHERS | {"lora_rank": request.param}
    cached = asked | {"score_cache": str(folder / "cache")}
    return {
        "without": run_short(folder / "without", **asked),
        "cold": run_short(folder / "cold", **cached),
        "warm": run_short(folder / "warm", **cached),
        "other": run_short(folder / "other", **cached, objective="forward_kl"),
    }


def test_weights_and_metrics_are_the_same_bit_for_bit(runs: dict[str, Training]):
    assert_same_run(runs["without"], runs["cold"])
    assert_same_run(runs["cold"], runs["warm"])


def test_the_same_run_again_asks_no_teacher(runs: dict[str, Training]):
    assert counts(runs["cold"])[0] == 0
    found, scored = counts(runs["warm"])
    assert found == scored == counts(runs["cold"])[1] > 0


def test_another_objective_shares_the_first_step_and_no_other(runs: dict[str, Training]):
    """After it the students differ, and so does what they write."""
    found, scored = counts(runs["other"])
    rows = read_metrics(runs["other"].folder)
    assert 0 < found < scored
    assert found == 2 * rows[0]["tokens"], "both teachers, every response of the step"


@pytest.mark.parametrize("mode", ["live", "ema"])
def test_a_self_that_moves_is_never_cached(mode: str, tmp_path: Path):
    asked = {"teacher": "self+answer", "self_teacher": mode, "score_cache": str(tmp_path / "cache"), "steps": 2}
    first, second = run_short(tmp_path / "a", **asked), run_short(tmp_path / "b", **asked)
    assert counts(first)[0] == counts(second)[0] == 0
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_the_students_own_checkpoint_as_a_teacher_stays_as_it_was(tmp_path: Path):
    """The student is trained on its own copy of the weights; the teacher's entries are those of the first step."""
    asked = {"teacher": "start=bundled:student", "score_cache": str(tmp_path / "cache"), "steps": 3}
    first, second = run_short(tmp_path / "a", **asked), run_short(tmp_path / "b", **asked)
    without = run_short(tmp_path / "c", **asked | {"score_cache": None})
    assert_same_run(first, second)
    assert_same_run(first, without)
    found, scored = counts(second)
    assert found == scored > 0
