"""Worlds with a known answer through the front door: what is planted has to be found."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scripted_worlds import EOS, LetterTask, build_planted, build_student, run_world, success_of

from hydrometer.results import Diagnosis
from hydrometer.types import Message


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    teachers = {"towards": build_planted(2.0), "away": build_planted(-2.0), "copy": build_student()}
    return run_world(tmp_path_factory.mktemp("planted") / "run", teacher=teachers, questions=10, paths=1)


def scores(run: Diagnosis) -> dict[tuple[str, str], float | None]:
    return {(line["teacher"], line["objective"]): line["score"] for line in run.summary["ranking"]}


def test_the_teacher_that_follows_success_ranks_first_and_its_mirror_image_below_no_teacher(planted: Diagnosis) -> None:
    order = [line["teacher"] for line in planted.summary["ranking"] if line["score"] is not None]
    assert order[:3] == ["towards", "towards", "no teacher"]
    assert set(order[3:]) == {"away"}
    found = scores(planted)
    # under reverse KL the planted field is b S up to a constant, so the ideal direction itself, up to its sign
    assert found["towards", "reverse_kl"] == pytest.approx(1.0, abs=0.15)
    assert found["away", "reverse_kl"] == pytest.approx(-1.0, abs=0.15)
    assert found["towards", "forward_kl"] > 0.5
    assert found["away", "forward_kl"] < -0.5


def test_the_planted_teacher_is_recommended(planted: Diagnosis) -> None:
    chosen = planted.summary["recommendation"]
    assert chosen["teacher"] == "towards"
    assert chosen["probability"] >= 0.95
    assert planted.summary["verdict"] == chosen["sentence"]
    assert "student" in chosen["continuation"]


def test_a_copy_of_the_student_has_no_direction_anywhere(planted: Diagnosis) -> None:
    rows = planted.table("alignment").filter(teacher="copy")
    eligible = planted.table("nodes").filter("eligible").height
    assert rows["cosine"].null_count() == rows.height > eligible > 0
    counts = dict(rows.group_by("objective", "reason").len().select("reason", "len").iter_rows())
    assert set(counts) == {"no_direction", "equal_success_rates"}
    assert rows.filter(reason="no_direction").height == 2 * eligible
    assert rows["signal"].abs().max() == 0.0
    assert rows["direction_norm"].max() < 1e-6
    assert scores(planted)["copy", "reverse_kl"] is None
    metrics = next(arm for arm in planted.summary["arms"] if arm["teacher"] == "copy")["scores"]["all"]
    assert metrics["mean_cosine"]["value"] is None
    assert metrics["mean_cosine"]["reason"] == "no_direction"
    assert metrics["pooled_cosine"]["reason"] == "no_direction"


def test_a_run_of_copies_alone_is_done_and_says_why_nothing_is_ranked(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", teacher={"copy": build_student()}, questions=3)
    assert run.summary["recommendation"] is None
    assert "A teacher that agrees with the student does not" in run.summary["verdict"]


def test_estimated_success_rates_agree_with_enumeration(planted: Diagnosis) -> None:
    paths = {
        (row["question_id"], row["rollout_id"]): row["token_ids"]
        for row in planted.table("rollouts").filter(kind="path").iter_rows(named=True)
    }
    kept = planted.table("candidates").filter("kept")
    prompts = {q.question_id: q.prompt for q in LetterTask().questions("diagnose")}
    student = build_student()
    truth = []
    for row in kept.iter_rows(named=True):
        prefix = paths[row["question_id"], row["rollout_id"]][: row["position"]]
        truth.append(success_of(student.render(prompts[row["question_id"]]), (*prefix, row["token_id"])))
    exact = np.array(truth)
    visits, rates = kept["visits"].to_numpy(), kept["success_rate"].to_numpy()
    certain = (exact < 1e-6) | (exact > 1 - 1e-6)
    assert np.allclose(rates[certain], exact[certain])
    open_ = (exact > 0.05) & (exact < 0.95)
    z = (rates - exact)[open_] / np.sqrt(exact * (1 - exact) / visits)[open_]
    assert open_.sum() > 60
    # candidates of a path share rollouts, so the mean of z is looser than 1 / sqrt(n)
    assert abs(z.mean()) < 0.35
    assert 0.75 < z.std() < 1.25
    assert np.abs(z).max() < 4.5


def test_the_interval_of_a_success_rate_covers_the_truth(planted: Diagnosis) -> None:
    questions = planted.table("questions")
    student = build_student()
    truth = [
        success_of(student.render((Message("user", f"question {int(q[1:])}"),)), ()) for q in questions["question_id"]
    ]
    inside = questions.select(low=pl.col("success_low"), high=pl.col("success_high"), truth=pl.Series(truth))
    assert inside.filter(pl.col("truth").is_between("low", "high")).height >= 8
    assert questions["rollouts"].unique().to_list() == [32]


def test_the_end_of_sequence_is_a_candidate_like_any_other(planted: Diagnosis) -> None:
    ends = planted.table("candidates").filter(token_id=EOS)
    assert ends.filter("kept").height > 5
    assert set(ends["token"]) == {"<eos>"}
