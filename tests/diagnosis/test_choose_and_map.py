"""Runs that choose (by the outcomes of paths) and runs that map, against the exact world and their own tables."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from recompute import check_run
from scripted_worlds import TOKENS, build_planted, run_world, student_probs, success_of

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.errors import SpecError
from hydrometer.results import Diagnosis

QUESTIONS, PATHS = 6, 12


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return run_world(
        tmp_path_factory.mktemp("choose") / "run",
        teacher={"towards": build_planted(3.0), "away": build_planted(-3.0)},
        objective=["reverse_kl"],
        allocation="choose",
        questions=QUESTIONS,
        paths=PATHS,
        nodes_per_question=3,
        visits=6,
        seed=5,
    )


def by_hand(run: Diagnosis, teacher: str) -> tuple[float, float, float]:
    """Sum of g.d from outcomes, its standard error over questions times their number, and the sum of |d|^2."""
    nodes = run.table("nodes").to_dicts()
    base = {row["question_id"]: (row["rollouts"], row["correct"]) for row in run.table("questions").to_dicts()}
    scores = {
        (row["question_id"], row["rollout_id"], row["position"], row["token_id"]): row["field:reverse_kl"]
        for row in run.table("teacher_scores").filter(teacher=teacher).to_dicts()
    }
    listed: dict[tuple, dict[int, float]] = {}
    for row in run.table("candidates").to_dicts():
        if row["student_logprob"] is not None:
            key = (row["question_id"], row["rollout_id"], row["position"])
            listed.setdefault(key, {})[row["token_id"]] = math.exp(row["student_logprob"])
    right = {(row["question_id"], row["rollout_id"]): row["path_correct"] for row in nodes}
    inner: dict[str, float] = {}
    square = 0.0
    for row in nodes:
        key = (row["question_id"], row["rollout_id"], row["position"])
        p = listed.get(key, {})
        if len(p) < 2:
            continue
        mass = sum(p.values())
        mean = sum(p[k] / mass * scores[*key, k] for k in p)
        d = {k: p[k] * (scores[*key, k] - mean) for k in p}
        square += sum(value**2 for value in d.values())
        rollouts, correct = base[key[0]]
        others = [own for (question, path), own in right.items() if question == key[0] and path != key[1]]
        baseline = (sum(others) + correct + 0.5) / (len(others) + rollouts + 1.0)
        if row["token_id"] in d:
            pull = d[row["token_id"]] - sum(p[k] / mass * d[k] for k in p)
            inner[key[0]] = inner.get(key[0], 0.0) + pull * (row["path_correct"] - baseline)
    values = np.array(list(inner.values()))
    return values.sum(), values.std(ddof=1) * math.sqrt(len(values)), square


def exact(run: Diagnosis, strength: float) -> float:
    """Sum of g.d over the nodes of the same paths, from exact success rates and reverse KL to p exp(b S)."""
    total = 0.0
    for row in run.table("rollouts").filter(kind="path").to_dicts():
        prompt = tuple(f"user: question {int(row['question_id'][1:])}".encode())
        for position in range(len(row["token_ids"])):
            prefix = tuple(row["token_ids"][:position])
            p = student_probs(prompt, prefix)
            rates = np.array([success_of(prompt, (*prefix, k)) if p[k] > 0 else 0.0 for k in range(len(TOKENS))])
            g = p * (rates - p @ rates)
            total += strength * float(g @ g)  # q ~ p exp(b S) gives d = b g
    return total


def test_the_score_is_recomputed_from_the_tables(chosen: Diagnosis) -> None:
    summary = chosen.summary
    assert summary["ranked_by"] == "outcomes"
    assert summary["analyses"]["confidence"] == 0.95  # one look
    assert any("rests on the few nodes" in warning for warning in summary["warnings"])
    kept = chosen.table("alignment").filter(teacher="towards", objective="reverse_kl")
    weights = kept.join(chosen.table("nodes"), on=["question_id", "rollout_id", "position"])
    length = (weights["node_weight"] * (weights["ideal_norm"] ** 2 - weights["noise_correction"])).sum()
    for teacher in ("towards", "away"):
        inner, _, square = by_hand(chosen, teacher)
        line = next(
            line for line in summary["ranking"] if (line["teacher"], line["objective"]) == (teacher, "reverse_kl")
        )
        assert line["score"] == pytest.approx(inner / math.sqrt(length * square), rel=1e-9)


def test_inner_products_are_those_of_the_exact_world(chosen: Diagnosis) -> None:
    for teacher, strength in (("towards", 3.0), ("away", -3.0)):
        inner, error, _ = by_hand(chosen, teacher)
        assert abs(inner - exact(chosen, strength)) < 4.0 * error
    scores = {line["teacher"]: line["score"] for line in chosen.summary["ranking"]}
    assert scores["towards"] > 0.0 > scores["away"]


def test_branches_stay_at_the_chosen_nodes_and_the_tables_agree(chosen: Diagnosis) -> None:
    nodes, rollouts = chosen.table("nodes"), chosen.table("rollouts")
    weighed = nodes.filter(pl.col("node_weight") > 0.0)
    assert weighed.group_by("question_id").len()["len"].to_list() == [3] * QUESTIONS
    branches = rollouts.filter(kind="branch")
    at = branches.select("question_id", rollout_id="parent_rollout_id", position=pl.col("forced_tokens") - 1)
    assert at.join(weighed, on=["question_id", "rollout_id", "position"], how="anti").is_empty()
    kept = chosen.table("candidates").filter("kept")
    assert kept.join(weighed, on=["question_id", "rollout_id", "position"], how="anti").is_empty()
    assert kept["visits"].min() == 6
    assert nodes.filter(pl.col("node_weight") == 0.0)["reason"].unique().to_list() == ["not_chosen"]
    assert check_run(chosen.folder)[1] == []
    config = json.loads((chosen.folder / "run.json").read_text())["config"]
    assert (config["rollouts"], config["min_visits"]) == (2, 2)


def test_a_map_spends_its_rollouts_where_candidates_differ(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", allocation="map", visits=60, rollouts=8, questions=3, paths=1, seed=2)
    assert run.summary["ranked_by"] == "branches"
    assert not any("rests on the few nodes" in warning for warning in run.summary["warnings"])
    assert check_run(run.folder)[1] == []
    kept = run.table("candidates").filter("kept").join(run.table("nodes"), on=["question_id", "rollout_id", "position"])
    truth = [
        abs(success_of(tuple(f"user: question {int(q[1:])}".encode()), (*prefix, token)) - value)
        for q, prefix, token, value in kept.join(
            run.table("rollouts").select("question_id", "rollout_id", path="token_ids"),
            on=["question_id", "rollout_id"],
        )
        .select("question_id", pl.col("path").list.head(pl.col("position")), "token_id", "value")
        .iter_rows()
    ]
    forced = kept.filter(pl.col("position") > 0)
    moves = np.array(truth)[kept["position"].to_numpy() > 0] * np.exp(forced["student_logprob"].to_numpy())
    visits = forced["visits"].to_numpy()
    assert np.median(visits[moves > 0.05]) > 1.5 * np.median(visits[moves < 0.02])
    assert kept["visits"].min() >= 4


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nodes-per-path"):
        run_world(tmp_path / "a", allocation="choose", nodes_per_path=3)
    with pytest.raises(SpecError, match="minillm"):
        run_world(tmp_path / "b", allocation="choose", objective=["minillm"])
    assert DiagnoseConfig(allocation="choose").fit_allocation().paths == 16
    fitted = DiagnoseConfig(allocation="choose", paths=9).fit_allocation()
    assert (fitted.paths, fitted.rollouts, fitted.visits, fitted.min_visits) == (9, 2, 8, 2)
    assert DiagnoseConfig(visits=7).fit_allocation() == DiagnoseConfig(visits=7)
