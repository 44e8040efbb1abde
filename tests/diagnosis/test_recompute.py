"""A run folder says enough: all that is scored can be computed again from its tables, a changed one is noticed."""

import json
from pathlib import Path

import polars as pl
import pytest
from recompute import check_run
from scripted_worlds import build_planted, build_student, run_world

from hydrometer.results import Diagnosis


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    teachers = {"towards": build_planted(1.0), "away": build_planted(-3.0), "copy": build_student()}
    objectives = ["reverse_kl", "forward_kl", "jsd:beta=0.5", "topk_reverse_kl:k=2"]
    folder = tmp_path_factory.mktemp("recompute") / "run"
    return run_world(folder, teacher=teachers, objective=objectives, questions=6, paths=2, seed=3)


def test_an_outsider_recomputes_counts_alignment_and_aggregates(run: Diagnosis) -> None:
    compared, wrong = check_run(run.folder)
    assert wrong == []
    assert compared["visits and successes"] > 150
    assert compared["alignment"] > 1000
    assert compared["aggregates"] == 3 * 4 * 3 * 6 * 2


def test_windowed_branches_and_thin_candidates_are_recounted_too(tmp_path: Path) -> None:
    run = run_world(
        tmp_path / "run",
        allocation="windowed",
        visits=6,
        branch_budget=40,
        min_visits=2,
        rollouts=8,
        questions=4,
        paths=3,
    )
    branches = run.table("rollouts").filter(kind="branch")
    assert 0 < branches.height <= 40 * 4
    assert check_run(run.folder)[1] == []


def test_on_policy_counts_are_the_base_rollouts(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", allocation="on_policy", rollouts=64, min_visits=8, questions=3)
    assert run.table("rollouts").filter(kind="branch").is_empty()
    first = run.table("candidates").filter(position=0)
    assert first.group_by("question_id", "rollout_id").agg(pl.col("visits").sum())["visits"].max() == 64
    assert check_run(run.folder)[1] == []


def test_the_recomputation_notices_a_changed_count_and_a_changed_score(run: Diagnosis, tmp_path: Path) -> None:
    for name in ("rollouts", "nodes", "candidates", "teacher_scores", "alignment"):
        run.table(name).write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "summary.json").write_text(json.dumps(run.summary))
    more = run.table("candidates").with_columns(visits=pl.col("visits") + (pl.int_range(pl.len()) == 5))
    more.write_parquet(tmp_path / "candidates.parquet")
    assert any("candidate" in line for line in check_run(tmp_path)[1])
    run.table("candidates").write_parquet(tmp_path / "candidates.parquet")
    run.table("alignment").with_columns(pl.col("cosine") * 0.999).write_parquet(tmp_path / "alignment.parquet")
    assert any("cosine" in line for line in check_run(tmp_path)[1])
