"""The scores table and the performance difference of whole runs, against plain loops and planted mistakes."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scripted_worlds import TINY, LetterTask, build_planted, build_student, leave_plain_reports, run_world

from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.identity import Worlds, check_identity
from hydrometer.alignment.score_table import alignment_scores
from hydrometer.alignment.study import build_study
from hydrometer.diagnosis.run import Diagnosis
from hydrometer.evaluation.statistics import pass_at

QUESTIONS, PATHS = 10, 3
OF_NODES = ("question_id", "rollout_id", "position")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    teachers = {"towards": build_planted(3.0), "away": build_planted(-3.0)}
    options: dict[str, Any] = {"questions": QUESTIONS, "paths": PATHS, "rollouts": 32, "visits": 16, "min_visits": 16}
    folder = tmp_path_factory.mktemp("scores") / "run"
    with pytest.MonkeyPatch.context() as patched:
        leave_plain_reports(patched)
        return run_world(folder, teacher=teachers, continuation="both", objective=["reverse_kl", "dr_grpo"], **options)


def tables_of(run: Diagnosis, **changed: pl.DataFrame) -> Worlds:
    rollouts = run.table("rollouts").filter(kind="base")
    own = rollouts.group_by("question_id", "model").agg(rollouts=pl.len(), correct=pl.col("correct").sum())
    names = ("nodes", "candidates", "teacher_scores", "token_scores")
    return Worlds(**{name: run.table(name) for name in names} | {"own": own.sort("question_id", "model")} | changed)


def test_every_run_checks_the_performance_difference(run: Diagnosis) -> None:
    values = {entry["teacher"]: entry for entry in run.summary["values"]}
    for name, sign in (("towards", 1.0), ("away", -1.0)):
        entry = values[name]
        assert entry["holds"]
        low, high = entry["difference"]["interval"]
        assert sign * entry["difference"]["value"] > 0.15
        at_least, at_most = entry["bounds_interval"]
        assert at_least <= high
        assert low <= at_most
        # everything is a candidate here, so that the bounds close on what was measured
        assert entry["bounds"] == pytest.approx([entry["measured"]["value"]] * 2)
        assert entry["measured_share"]["value"] == pytest.approx(1.0, abs=0.5)
        assert entry["privilege_gap"] is None
    assert check_identity(tables_of(run), ["towards"])[0]["difference"] == values["towards"]["difference"]


def flooded(run: Diagnosis, name: str) -> pl.DataFrame:
    """Candidates whose counts hold forced rollouts for ancestors too: the mistake."""
    rollouts = run.table("rollouts")
    counted = rollouts.filter(pl.col("kind").is_in(["base", "branch"]), model=name)
    by_question: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in counted.iter_rows(named=True):
        by_question[row["question_id"]].append(row)
    seen: dict[tuple[Any, ...], list[bool]] = defaultdict(list)
    for path in rollouts.filter(kind="path").iter_rows(named=True):
        for row in by_question[path["question_id"]]:
            ids = row["token_ids"]
            for position in range(min(len(ids), len(path["token_ids"]))):
                seen[path["question_id"], path["rollout_id"], position, ids[position]].append(row["correct"])
                if ids[position] != path["token_ids"][position]:
                    break
    table = run.table("candidates").filter(continuation=name)
    keys = table.select(*OF_NODES, "token_id").rows()
    return table.with_columns(success_rate=pl.Series([float(np.mean(seen[key])) for key in keys]))


def test_planted_mistakes_move_the_path_sum_away_from_the_difference(run: Diagnosis) -> None:
    def measured(**changed: pl.DataFrame) -> float:
        return check_identity(tables_of(run, **changed), ["towards"])[0]["measured"]["value"]

    right = measured()
    difference = check_identity(tables_of(run), ["towards"])[0]["difference"]["value"]
    assert abs(right - difference) < 0.1
    assert abs(measured(candidates=flooded(run, "towards")) - right) > 0.03
    p = pl.col("student_logprob").exp() ** 0.4
    p = p / p.sum().over(*OF_NODES, "continuation")
    at_another = run.table("candidates").with_columns(student_logprob=p.log())
    assert abs(measured(candidates=at_another) - right) > 0.1


def score(run: Diagnosis, name: str, teacher: str, who: str | None, objective: str = "reverse_kl") -> dict[str, Any]:
    rows = run.table("scores").filter(score=name, teacher=teacher, objective=objective)
    continued = rows.filter(pl.col("continuation").is_null() if who is None else pl.col("continuation") == who)
    [row] = continued.iter_rows(named=True)
    return row


@pytest.mark.parametrize("who", ["student", "towards"])
def test_scores_by_plain_loops(run: Diagnosis, who: str) -> None:
    """Over the first two positions only, so that much is left unmeasured."""
    teacher = "towards"
    candidates = run.table("candidates").with_columns(kept=pl.col("kept") & (pl.col("position") < 2))
    info = {"reverse_kl": ObjectiveInfo("reverse_kl")}
    study = build_study(who, run.table("nodes"), candidates, run.table("teacher_scores"), info)
    rows = alignment_scores(study, run.table("nodes"), run.table("token_scores"), run.table("questions"))
    found = {row["score"]: row["value"] for row in rows if row["teacher"] == teacher}
    said = {
        tuple(row[k] for k in (*OF_NODES, "token_id")): row
        for row in run.table("teacher_scores").filter(teacher=teacher).iter_rows(named=True)
    }
    lengths = {
        tuple(row[k] for k in OF_NODES): (math.sqrt(row["full_norm_squared"]), row["l2"])
        for row in run.table("token_scores").filter(teacher=teacher, objective="reverse_kl").iter_rows(named=True)
    }
    nodes: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in candidates.filter("kept", continuation=who).iter_rows(named=True):
        nodes[tuple(row[k] for k in OF_NODES)].append(row)
    measured = {key: rows for key, rows in nodes.items() if len(rows) >= 2}
    paths = QUESTIONS * PATHS
    advantages, path_sum, tilt, size = [], 0.0, 0.0, 0.0
    for key, rows in measured.items():
        p = [math.exp(row["student_logprob"]) for row in rows]
        q = [math.exp(said[*key, row["token_id"]]["teacher_logprob"]) for row in rows]
        s = [row["success_rate"] for row in rows]
        value = sum(a * c for a, c in zip(p, s, strict=True)) / sum(p)
        advantages.append(sum(b * c for b, c in zip(q, s, strict=True)) / sum(q) - value)
        path_sum += sum(b * (c - value) for b, c in zip(q, s, strict=True))
        field = [math.log(b / a) for a, b in zip(p, q, strict=True)]
        mean = sum(a * f for a, f in zip(p, field, strict=True)) / sum(p)
        effect = sum(a * (f - mean) * c for a, f, c in zip(p, field, s, strict=True))
        tilt, size = tilt + effect, size + abs(effect)
    assert found["mean_advantage"] == pytest.approx(np.mean(advantages))
    assert found["path_advantage"] == pytest.approx(path_sum / paths)
    assert found["path_direction"] == pytest.approx(tilt / paths)
    shares = [sum(lengths[key][i] for key in measured) / sum(one[i] for one in lengths.values()) for i in (0, 1)]
    assert max(shares) < 0.9
    rate = run.table("questions")["success_rate"].mean()
    harmed = (shares[0] * tilt - (1 - shares[0]) * size) / paths
    assert found["path_direction_with_harm"] == pytest.approx(harmed)
    lost = (1 - shares[1]) * rate
    assert found["path_advantage_with_harm"] == pytest.approx(shares[1] * path_sum / paths - lost)
    lost *= paths / len(measured)
    assert found["mean_advantage_with_harm"] == pytest.approx(shares[1] * np.mean(advantages) - lost)
    cosine = found["pooled_cosine"]
    assert found["pooled_cosine_with_harm"] == pytest.approx(shares[0] * cosine - (1 - shares[0]))


@pytest.mark.parametrize("who", ["student", "towards"])
def test_scores_that_the_summary_has_too_are_the_same_there(run: Diagnosis, who: str) -> None:
    arm = next(
        arm for arm in run.summary["arms"]
        if (arm["teacher"], arm["objective"], arm["continuation"]) == ("towards", "reverse_kl", who)
    )  # fmt: skip
    for name in ("pooled_cosine", "mean_signal", "mean_advantage"):
        entry = arm["scores"]["all"][name]
        row = score(run, name, "towards", who)
        assert row["value"] == pytest.approx(entry["value"])
        assert [row["low"], row["high"]] == pytest.approx(entry["intervals"]["questions"])
        assert row["n"] == entry["n_questions"]


def test_the_path_sum_of_advantages_is_what_the_identity_measures(run: Diagnosis) -> None:
    [entry] = [entry for entry in run.summary["values"] if entry["teacher"] == "away"]
    row = score(run, "path_advantage", "away", "away")
    assert row["value"] == pytest.approx(entry["measured"]["value"])
    assert [row["low"], row["high"]] == pytest.approx(entry["measured"]["interval"])


def test_every_arm_has_every_score_and_no_teacher_has_zero(run: Diagnosis) -> None:
    table = run.table("scores")
    counts = table.group_by("teacher", "objective", "continuation").len()
    sizes = {tuple(row[:3]): row[3] for row in counts.iter_rows()}
    for teacher in ("towards", "away"):
        for objective in ("reverse_kl", "dr_grpo"):
            assert sizes[teacher, objective, "student"] == sizes[teacher, objective, teacher] == 10
            assert sizes[teacher, objective, None] == 8
    nothing = table.filter(teacher="no teacher")
    assert set(nothing["value"]) == set(nothing["low"]) == {0.0}
    assert {row[2] for row in sizes if row[0] == "no teacher"} == {None, "student", "towards", "away"}
    unknown = score(run, "pooled_cosine_with_harm", "towards", "student", "dr_grpo")
    assert unknown["value"] is None
    assert unknown["reason"] == "no_full_vocabulary_direction"


def test_patterns_and_accuracies_are_means_over_positions_and_questions(run: Diagnosis) -> None:
    rows = run.table("token_scores").filter(teacher="away", objective="reverse_kl")
    entropy = run.table("nodes").filter(continuation="student").select(*OF_NODES, "student_entropy_nats")
    gap = rows.join(entropy, on=OF_NODES).select(
        (pl.col("teacher_entropy_nats") - pl.col("student_entropy_nats")).abs()
    )
    assert score(run, "entropy_gap", "away", None)["value"] == pytest.approx(gap.to_series().mean())
    assert score(run, "reverse_kl", "away", None)["value"] == pytest.approx(rows["reverse_kl_nats"].mean())
    base = run.table("rollouts").filter(kind="base").sort("question_id")
    grouped = base.group_by("model", "question_id", maintain_order=True).agg(pl.col("correct").sum())
    counts = {name: grouped.filter(model=name)["correct"] for name in ("towards", "student")}
    rates = {name: values.to_numpy() / 32 for name, values in counts.items()}
    assert score(run, "teacher_accuracy", "towards", None)["value"] == pytest.approx(rates["towards"].mean())
    gain = (rates["towards"] - rates["student"]).mean()
    assert score(run, "accuracy_gain", "towards", None)["value"] == pytest.approx(gain)
    solved = {
        name: pass_at(values.cast(pl.Int64).to_numpy(), np.full(QUESTIONS, 32), 32) for name, values in counts.items()
    }
    expected = (solved["towards"] * (1.0 - solved["student"])).mean()
    assert score(run, "new_knowledge", "towards", None)["value"] == pytest.approx(expected)


def test_without_a_teacher_s_rollouts_its_accuracy_is_unknown_and_context_rollouts_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_plain_reports(monkeypatch)
    plain = run_world(tmp_path / "plain", **TINY, objective=["reverse_kl"])
    assert plain.summary["values"] == []
    assert score(plain, "teacher_accuracy", "planted", None)["reason"] == "no_rollouts_of_the_teacher"
    told = run_world(tmp_path / "told", **TINY, objective=["reverse_kl"], context_rollouts=10)
    correct = told.table("context_rollouts").filter(teacher="planted")["correct"].mean()
    assert score(told, "teacher_accuracy", "planted", None)["value"] == pytest.approx(correct)


def test_the_gap_of_a_student_that_is_told_something_is_its_privilege(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_plain_reports(monkeypatch)
    run = run_world(tmp_path / "run", student=build_student(), teacher="self+answer", continuation="teacher", **TINY)
    [entry] = run.summary["values"]
    assert entry["context"] == "answer"
    assert entry["privilege_gap"] == entry["difference"]
    questions = run.table("questions")["success_rate"].mean()
    assert entry["student_value"]["value"] == pytest.approx(questions)
    assert LetterTask().questions("diagnose")[0].answer == "right"
