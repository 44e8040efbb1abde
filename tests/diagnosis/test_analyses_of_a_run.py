"""The analyses and the advice of a real (tiny) run, computed again from its files without the package."""

import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scripted_worlds import TOKENS, build_planted, run_world, student_probs

from hydrometer.alignment.advice import trl_rows, write_advice, write_trl_rows
from hydrometer.errors import RunFolderError, UserError
from hydrometer.results import Diagnosis
from hydrometer.sampling import ScriptedModel

KEYS = ["question_id", "rollout_id", "position", "continuation"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    teachers = {"towards": build_planted(2.0), "away": build_planted(-3.0), "nearly": build_planted(0.3)}
    folder = tmp_path_factory.mktemp("analyses") / "run"
    options = {"questions": 12, "paths": 2, "rollouts": 16, "visits": 10, "min_visits": 4, "seed": 3}
    return run_world(folder, teacher=teachers, objective=["reverse_kl"], **options)


def pick(rows, **wanted):
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def test_every_analysis_is_in_the_summary(run: Diagnosis) -> None:
    analyses = json.loads((run.folder / "summary.json").read_text())["analyses"]
    assert set(analyses) == {
        *("two_candidate_share", "outcomes", "across_teachers", "oracle_filter", "advantage_against_cosine"),
        *("estimator_noise", "group_size", "advice", "in_context", "sequence_tilt", "questions", "epsilon"),
        "confidence",
    }
    assert [row["group_size"] for row in analyses["group_size"]] == [2, 4, 8]


def test_correlations_filter_and_agreement_from_the_tables(run: Diagnosis) -> None:
    alignment = run.table("alignment").filter(teacher="towards")
    eligible = alignment.drop_nulls("cosine")
    found = pick(
        run.summary["correlations"],
        teacher="towards", response="cosine", predictor="depth_frac", method="pearson",
    )  # fmt: skip
    assert found["value"] == pytest.approx(stats.pearsonr(eligible["cosine"], eligible["depth_frac"]).statistic)
    naive = pick(run.summary["analyses"]["oracle_filter"], teacher="towards")["naive"]
    kept = alignment.filter(pl.col("cosine") > 0)
    assert naive["kept_share"]["value"] == pytest.approx(kept.height / alignment.height)
    gain = kept["signal"].mean() - alignment["signal"].mean()
    assert naive["gain"]["value"] == pytest.approx(gain)
    assert naive["kept_share_of_all_tokens"] == pytest.approx(kept.height / run.table("nodes").height)
    agree = pick(run.summary["analyses"]["advantage_against_cosine"], teacher="towards")["same_rollouts"]
    signs = eligible.filter((pl.col("advantage").abs() > 1e-12) & (pl.col("cosine").abs() > 1e-12))
    share = ((signs["advantage"] > 0) == (signs["cosine"] > 0)).mean()
    assert agree["sign_agreement"]["value"] == pytest.approx(share)


def test_outcomes_from_the_tables(run: Diagnosis) -> None:
    rows = run.table("alignment").filter(teacher="away").drop_nulls("cosine")
    found = pick(run.summary["analyses"]["outcomes"], teacher="away", metric="mean_cosine")
    means = [rows.filter(path_correct=outcome)["cosine"].mean() for outcome in (True, False)]
    assert found["clustered"]["value"] == pytest.approx(means[0] - means[1])
    per_question = rows.group_by("question_id", "path_correct").agg(pl.col("cosine").mean())
    wide = per_question.pivot("path_correct", index="question_id").drop_nulls()
    moved = (wide["true"] - wide["false"]).filter((wide["true"] - wide["false"]) != 0)
    assert found["paired"]["n_questions"] == len(moved)
    if len(moved):
        assert found["paired"]["p"] == pytest.approx(stats.wilcoxon(moved.to_numpy(), method="exact").pvalue, abs=0.02)


def test_advice_is_keyed_by_prefix_and_its_worth_is_recomputed(run: Diagnosis) -> None:
    advice = run.table("advice")
    entry = run.summary["analyses"]["advice"]
    paths = {
        (r["question_id"], r["rollout_id"]): r["token_ids"]
        for r in run.table("rollouts").filter(kind="path").to_dicts()
    }
    for row in advice.to_dicts():
        ids = paths[row["question_id"], row["rollout_id"]]
        assert row["prefix_ids"] == ids[: row["position"]]
        assert row["token_id"] == ids[row["position"]]
        assert row["weight"] == {"train": 1.0, "undecided": 1.0, "skip": 0.0}[row["advice"]]
    arm = entry["arm"]
    assert arm["teacher"] == "towards"
    signals = advice.join(run.table("alignment").filter(**arm), on=KEYS)
    assert signals.height == advice.height == run.table("alignment").filter(**arm).height
    assert entry["mean_signal"]["value"] == pytest.approx(signals["signal"].mean())
    proposed = signals.filter(pl.col("predicted_signal") > pl.col("predicted_error"))
    assert entry["n_proposed"]["train"] == proposed.height
    assert entry["mean_signal_train"]["value"] == pytest.approx(proposed["signal"].mean())
    assert entry["gain"]["value"] == pytest.approx(proposed["signal"].mean() - signals["signal"].mean())
    is_worth_it = entry["gain"]["interval"][0] > 0 and entry["mean_signal_train"]["interval"][0] > 0
    assert entry["advised"] == is_worth_it == bool((advice["advice"] == "train").any())
    oracle = pick(run.summary["analyses"]["oracle_filter"], teacher="towards")["split"]["mean_signal_kept"]
    assert entry["mean_signal_oracle"] == oracle


def test_out_of_fold_predictions_by_least_squares(run: Diagnosis) -> None:
    """One fold again: ridge regression as least squares with extra rows, on the other folds' questions."""
    entry = run.summary["analyses"]["advice"]
    rows = run.table("advice").join(run.table("alignment").filter(**entry["arm"]), on=KEYS)
    rows = rows.join(run.table("nodes").select(*KEYS, "student_entropy_nats"), on=KEYS).sort(KEYS)
    names = sorted(rows["question_id"].unique())
    fold = np.array([names.index(name) % 10 for name in rows["question_id"]])
    x = np.column_stack(
        [
            rows["path_correct"].to_numpy().astype(float),
            np.sqrt(np.maximum(rows["reverse_kl_nats"].to_numpy(), 0.0)),
            rows["student_entropy_nats"].to_numpy(),
            rows["depth_frac"].to_numpy(),
            np.log1p(rows["position"].to_numpy()),
        ]
    )
    y = rows["signal"].to_numpy()
    held = fold == 1
    mean, scale = x[~held].mean(0), x[~held].std(0)
    z = np.column_stack([np.ones(len(x)), (x - mean) / scale])
    extra = np.column_stack([np.zeros(5), math.sqrt(0.05 * (~held).sum()) * np.eye(5)])
    b = np.linalg.lstsq(np.vstack([z[~held], extra]), np.append(y[~held], np.zeros(5)), rcond=None)[0]
    assert rows["predicted_signal"].to_numpy()[held] == pytest.approx(z[held] @ b)


def test_exports(run: Diagnosis, tmp_path: Path) -> None:
    written = write_advice(run.folder, tmp_path / "advice.parquet")
    assert written.equals(pl.read_parquet(tmp_path / "advice.parquet"))
    assert written.select("question_id", "prefix_ids").is_unique().all()
    if run.summary["recommendation"] is None or run.summary["recommendation"]["teacher"] != "no teacher":
        export = write_trl_rows(run.folder, tmp_path / "rows.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert rows == export.rows and export.left_out == {}
        assert [row["question_id"] for row in rows] == run.table("questions")["question_id"].to_list()
        assert rows[3]["prompt"] == [{"role": "user", "content": "question 3"}]
        assert {row["privileged_context"] for row in rows} == {None}
        assert sum(row["teacher_id"] == "towards" for row in rows) >= 10


def test_contexts_become_privileged_context_and_skipped_questions_are_told(tmp_path: Path) -> None:
    specs = ["self+answer", "self+rule:Think.", "self+correct_demo"]
    run = run_world(tmp_path / "run", teacher=specs, student=build_attentive(), demos=1, questions=8, paths=1)
    shown = {name: dict(rows.select("question_id", "messages").iter_rows())
             for (name,), rows in run.table("contexts").group_by("teacher")}  # fmt: skip
    assert shown["self+rule:Think."]["q01"][0] == {"role": "system", "content": "Think."}
    summary = dict(run.summary)
    for teacher, expected in (
        ("self+answer", "The correct answer is right. Work through the problem and arrive at it."),
        ("self+rule:Think.", "Think."),
    ):
        force(run.folder, summary, teacher)
        rows = [row for row in trl_rows(run.folder).rows if row["teacher_id"] == teacher]
        assert rows and {row["privileged_context"] for row in rows} == {expected}
        assert {row["choice"] for row in rows} == {"recommended"}
    skipped = run.table("contexts").filter(pl.col("skipped"), teacher="self+correct_demo")["question_id"].to_list()
    force(run.folder, summary, "self+correct_demo")
    export = trl_rows(run.folder)
    assert skipped and set(export.left_out) <= set(skipped)
    assert len(export.rows) + len(export.left_out) == 8
    assert all("no correct demonstration" in reason for reason in export.left_out.values())
    force(run.folder, summary, "no teacher")
    with pytest.raises(UserError, match="recommends no teacher"):
        trl_rows(run.folder)
    contexts = run.table("contexts").drop("messages")
    force(run.folder, summary, "self+answer")
    contexts.write_parquet(run.folder / "contexts.parquet")
    with pytest.raises(RunFolderError, match="lacks the column messages"):
        trl_rows(run.folder)


def build_attentive() -> ScriptedModel:
    """The student of this world, flatter where its prompt holds more than the question."""

    def probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        text = bytes(prompt).decode()
        number = re.search(r"question (\d+)", text)
        assert number is not None
        p = student_probs(tuple(f"user: question {number[1]} ".encode()), response)
        weights = p if text.split()[0] == "user:" and len(text) < 40 else p**0.6
        return weights / weights.sum()

    return ScriptedModel(TOKENS, probs, name="letters-attentive")


def force(folder: Path, summary: dict, teacher: str) -> None:
    chosen = {"teacher": teacher, "objective": "reverse_kl", "continuation": "student", "sentence": "Because."}
    (folder / "summary.json").write_text(json.dumps(summary | {"recommendation": chosen}))
