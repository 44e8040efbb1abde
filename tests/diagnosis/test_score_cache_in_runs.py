"""`--score-cache`: the same tables with it and without, the second run's teachers from the disk, and what is told."""

from pathlib import Path
from typing import Any

import pytest

import hydrometer
from hydrometer.artifacts import TABLES, read_table
from hydrometer.cli.main import run_command
from hydrometer.models.transformers_model import TransformersModel, load_model
from hydrometer.results import Diagnosis

OPTIONS: dict[str, Any] = {
    "teacher": ["expert=bundled:expert", "self+answer"],
    "objective": ["reverse_kl"],
    "questions": 2,
    "rollouts": 6,
    "visits": 2,
    "min_visits": 2,
    "max_response_tokens": 40,
    "threads": 1,
    "check": False,
}


def diagnose(out: Path, **changes: Any) -> Diagnosis:
    return hydrometer.diagnose(out=out, **OPTIONS | changes)


def assert_same_tables(one: Diagnosis, other: Diagnosis) -> None:
    compared = [name for name in TABLES if (one.folder / f"{name}.parquet").exists()]
    assert {"nodes", "teacher_scores", "token_scores", "alignment"} <= set(compared)
    for name in compared:
        assert one.table(name).equals(other.table(name)), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Diagnosis]:
    folder = tmp_path_factory.mktemp("runs")
    cache = str(folder / "cache")
    return {
        "without": diagnose(folder / "without"),
        "cold": diagnose(folder / "cold", score_cache=cache),
        "warm": diagnose(folder / "warm", score_cache=cache, objective=["reverse_kl", "jsd:beta=0.5"]),
        "more": diagnose(folder / "more", score_cache=cache, teacher=[*OPTIONS["teacher"], "self+empty:answer"]),
    }


def test_tables_are_equal_bit_for_bit_without_a_cache_and_with_an_empty_one(runs: dict[str, Diagnosis]):
    assert_same_tables(runs["without"], runs["cold"])
    assert runs["without"].summary["cost"]["cached_tokens"] == runs["cold"].summary["cost"]["cached_tokens"] == 0


def test_another_objective_asks_no_model_again_and_the_first_ones_rows_are_the_same(runs: dict[str, Diagnosis]):
    cost = runs["warm"].summary["cost"]
    assert cost["cached_tokens"] == cost["scored_tokens"] == runs["cold"].summary["cost"]["scored_tokens"] > 0
    mine = runs["warm"].table("token_scores").filter(objective="reverse_kl")
    assert mine.equals(runs["cold"].table("token_scores"))


def test_one_teacher_more_is_the_only_one_that_is_asked(runs: dict[str, Diagnosis]):
    cost = runs["more"].summary["cost"]
    before = runs["cold"].summary["cost"]["scored_tokens"]
    assert cost["scored_tokens"] == before * 4 // 3, "student and two teachers, then three"
    assert cost["cached_tokens"] == before
    rows = read_table(runs["more"].folder / "token_scores.parquet").filter(teacher="expert")
    assert rows.equals(runs["cold"].table("token_scores").filter(teacher="expert"))


def test_rewards_of_whole_responses_come_from_the_cache_too(tmp_path: Path):
    asked = {"objective": ["minillm"], "score_cache": str(tmp_path / "cache")}
    cold, warm = diagnose(tmp_path / "cold", **asked), diagnose(tmp_path / "warm", **asked)
    assert_same_tables(cold, warm)
    cost = warm.summary["cost"]
    assert cost["cached_tokens"] == cost["scored_tokens"] > runs_paths(warm) * 3, "more than the paths alone"


def runs_paths(run: Diagnosis) -> int:
    paths = run.table("rollouts").filter(kind="path")
    return int(paths["token_ids"].list.len().sum())


def test_a_model_that_is_given_as_an_object_is_never_cached(tmp_path: Path):
    """Nobody knows what has been done to its weights since they were read."""
    student = load_model("bundled:student")
    assert isinstance(student, TransformersModel)
    expert = load_model("bundled:expert")
    cache = tmp_path / "cache"
    for number in range(2):
        out = tmp_path / str(number)
        run = diagnose(out, student=student, teacher={"expert": expert}, score_cache=str(cache), questions=1)
        assert run.summary["cost"]["cached_tokens"] == 0
    assert not list(cache.rglob("*.safetensors"))


def test_the_screen_tells_the_hits_and_a_damaged_file_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = ["--teacher", "expert=bundled:expert", "--objective", "reverse_kl", "--questions", "1", "--rollouts", "6"]
    flags += ["--visits", "2", "--min-visits", "2", "--max-response-tokens", "40", "--score-cache", str(tmp_path / "c")]
    assert run_command(["diagnose", *flags, "--out", str(tmp_path / "a")]) == 0
    assert "score cache" not in capsys.readouterr().out
    damaged = next(path for path in (tmp_path / "c").rglob("*.safetensors"))
    damaged.write_bytes(b"")
    assert run_command(["diagnose", *flags, "--out", str(tmp_path / "b")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "of them from the score cache)" in printed
    assert "1 files of the score cache were damaged" in printed


def test_the_check_before_the_run_asks_the_models_themselves(tmp_path: Path):
    cache = tmp_path / "cache"
    for number in range(2):
        diagnose(tmp_path / str(number), score_cache=str(cache), check=True, questions=1)
    assert len(list(cache.rglob("*.safetensors"))) == 3, "one path under three models, and nothing of the check"


def test_a_run_may_be_resumed_with_another_cache_or_none(tmp_path: Path):
    first = diagnose(tmp_path / "run", score_cache=str(tmp_path / "one"))
    again = diagnose(tmp_path / "run", score_cache=str(tmp_path / "two"), resume=True)
    assert again.summary["ranking"] == first.summary["ranking"]
    assert not list((tmp_path / "two").rglob("*.safetensors"))
