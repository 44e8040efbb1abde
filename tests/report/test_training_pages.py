"""Pages of training runs, of several runs, and of evaluations, probes and recipes."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_page import page_data, parse
from training_runs import STEPS, write_training

from hydrometer.artifacts import write_json
from hydrometer.cli.report import report
from hydrometer.errors import RunFolderError
from hydrometer.report import build_comparison, build_report, run_kind
from hydrometer.report.training import POINTS, evaluation_figure, metric_figures, progress_figure, verdict
from hydrometer.report.training_files import read_training


def text_of(path: Path) -> str:
    return " ".join(" ".join(parse(path.read_text(encoding="utf-8")).text).split())


def figures_of(path: Path) -> dict[str, Any]:
    return page_data(path.read_text(encoding="utf-8"))["figures"]


def test_a_training_run_has_a_page_with_its_result_alarms_and_curves(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run", seed=1)
    assert run_kind(folder) == "training"
    path = build_report(folder)
    text = text_of(path)
    assert "40 steps of reverse_kl with expert" in text
    assert "Accuracy went from 40 % to 80 %: +40 points, 95 % from +30 points to +50 points." in text
    assert "1 alarm on the way." in text
    assert "It loops. Stop." in text
    figures = figures_of(path)
    assert list(figures)[:4] == ["evaluation", "evaluations", "metric-accuracy", "metric-reverse_kl"]
    assert "metric-gap_recovery" not in figures, "it has no value at any step"
    curve = figures["metric-accuracy"]
    assert [row[1] for row in curve["rows"]] == list(range(1, STEPS + 1))
    assert curve["rows"][9] == ["run", 10, 0.5]
    assert curve["note"].endswith("Good: up.")
    assert curve["chart"]["alarms"] == [{"run": "run", "step": 20, "text": "run, step 20: repetition"}]
    assert figures["metric-loss"]["chart"]["alarms"] == [], "its rule does not read this metric"
    assert figures["metric-new_metric"]["note"] == "A metric that this version does not know."
    assert "position bin" in figures["metric-reverse_kl_bin_0"]["note"]


def test_an_alarm_of_an_older_version_is_on_every_curve(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run", seed=1)
    alarm = json.loads((folder / "alarms.jsonl").read_text(encoding="utf-8"))
    del alarm["metrics"]
    (folder / "alarms.jsonl").write_text(json.dumps(alarm) + "\n", encoding="utf-8")
    path = build_report(folder)
    curves = [figure for name, figure in figures_of(path).items() if name.startswith("metric-")]
    assert [len(curve["chart"]["alarms"]) for curve in curves] == [1] * len(curves)
    assert "repetition not recorded 0.4" in text_of(path)


def test_evaluations_are_means_over_questions_with_their_interval(tmp_path: Path) -> None:
    run = read_training(write_training(tmp_path / "run"))
    before_after = evaluation_figure([run])
    assert before_after is not None
    assert before_after.rows[0] == ["accuracy", "run", "before", 0.4, pytest.approx(0.3), 0.5, 12, "share", None]
    assert {row[0] for row in before_after.rows} == {"accuracy", "pass@4"}
    progress = progress_figure([run])
    assert progress is not None
    assert run.evaluation is not None
    last = run.evaluation.filter(step=STEPS)["correct"].cast(pl.Float64)
    spread = 2.2010 * float(last.std() or 0) / 12**0.5  # t with 11 degrees of freedom
    row = progress.rows[-1]
    assert row[:3] == ["run", STEPS, pytest.approx(last.mean())]
    assert row[3] == pytest.approx(row[2] - spread, abs=1e-4)
    assert row[5] == 12


def test_a_run_that_is_still_going_on_has_a_page(tmp_path: Path) -> None:
    path = build_report(write_training(tmp_path / "run", ended=False))
    text = text_of(path)
    assert "It has not ended, or was not evaluated" in text
    assert "status: running" in text
    assert len(figures_of(path)["metric-loss"]["rows"]) == STEPS, "the torn line is left out"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], "{no", *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl, line 3"):
        build_report(folder)
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl cannot be read"):
        build_report(folder)


def test_long_curves_are_means_of_equally_many_steps(tmp_path: Path) -> None:
    run = read_training(write_training(tmp_path / "run"))
    rows = [{"step": step, "loss": float(step % 4)} for step in range(4 * POINTS)]
    [figure] = metric_figures([run._replace(metrics=rows, alarms=[])])
    assert len(figure.rows) == POINTS
    assert {row[2] for row in figure.rows} == {1.5}
    assert figure.rows[1][1] == 5.5


def test_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    folders = [write_training(tmp_path / name, seed=seed) for seed, name in enumerate(("calm", "loud"))]
    path = build_comparison(tmp_path / "comparison.html", folders, diagnoses=None)
    assert {row[0] for row in figures_of(path)["metric-loss"]["rows"]} == {"calm", "loud"}
    assert "loud 20 repetition accuracy 0.4 (threshold 0.14)" in text_of(path)
    alike = [write_training(tmp_path / name / "run") for name in ("a", "b")]
    path = build_comparison(tmp_path / "comparison.html", alike, diagnoses=None)
    assert {row[0] for row in figures_of(path)["metric-loss"]["rows"]} == {str(folder) for folder in alike}


def test_compared_diagnoses_have_their_scores_differences_and_interactions(tmp_path: Path) -> None:
    arm = {"teacher": "expert", "objective": "reverse_kl", "n_questions": 8, "reason": None}
    known = {"value": 0.3, "low": 0.1, "high": 0.5}
    none = {"value": None, "low": None, "high": None, "reason": "noise"}
    between = {"run_1": "runs/small", "run_2": "runs/large", "against": "early"}
    tables = {
        "scores": [
            {"run": "runs/small", "student": "s", **arm, **known},
            {"run": "runs/large", "student": "l", **arm, **none},
        ],
        "differences": [{**between, **arm, **known}],
        "interactions": [{**between, **arm, **known}, {**between, **arm, **known, "low": -0.1, "teacher": "weak"}],
    }
    path = build_comparison(tmp_path / "comparison.html", [], diagnoses=tables)
    figures = figures_of(path)
    assert figures["compared-scores"]["rows"][0] == ["expert, reverse_kl", "small", 0.3, 0.1, 0.5, 8, None]
    assert figures["compared-scores"]["rows"][1][2] is None
    assert "sampling noise" in figures["compared-scores"]["rows"][1][6]
    assert figures["compared-differences"]["rows"][0][1] == "large − small"
    text = text_of(path)
    assert "large − small expert early reverse_kl +0.30 [+0.10, +0.50]" in text
    assert "weak" not in text, "its interval holds 0"
    why = build_comparison(tmp_path / "comparison.html", [], diagnoses=None, reason="They differ in:\n  task")
    assert "Not compared They differ in: task" in text_of(why)


def test_an_evaluation_a_probe_and_a_recipe_show_their_estimates_and_sentences(tmp_path: Path) -> None:
    known = {"value": 0.5, "low": 0.4, "high": 0.6, "n_questions": 20, "reason": None}
    unknown = dict(known, value=None, low=None, high=None, reason="noise")
    for folder in ("eval", "recipe"):
        (tmp_path / folder).mkdir()
    write_json(tmp_path / "eval" / "run.json", {"schema_version": 1, "kind": "evaluation", "cost": {"rollouts": 40}})
    summary = {
        "model": "bundled:student",
        "task": "chain",
        "split": "test",
        "questions": 20,
        "samples": 4,
        "accuracy": known,
        "pass_at": {"2": unknown},
        "reading": "It is right half the time.",
    }
    write_json(tmp_path / "eval" / "summary.json", summary)
    path = build_report(tmp_path / "eval")
    assert "Evaluation: bundled:student" in text_of(path)
    assert "It is right half the time." in text_of(path)
    rows = figures_of(path)["estimates"]["rows"]
    assert rows[0] == ["accuracy", "bundled:student", 0.5, 0.4, 0.6, 20, "share", None]
    assert rows[1][:3] == ["pass@2", "bundled:student", None] and rows[1][6] == "share"
    assert "Right: bundled:student in 50 % [40 %, 60 %] of 4 responses to each of 20 questions of chain" in text_of(
        path
    )
    difference = dict(known, value=-0.1, low=-0.3, high=0.1)
    against = {"against": {"model": "b", "accuracy": known}, "comparison": {"difference": difference}}
    write_json(tmp_path / "eval" / "summary.json", summary | against | {"warnings": ["Look twice."]})
    text = text_of(build_report(tmp_path / "eval"))
    assert "and b in 50 % [40 %, 60 %] of 4 responses" in text
    assert "The first minus the second, paired by question: −10 points [−30 points, +10 points]." in text
    assert "Warnings Look twice." in text
    measures = {(row[0], row[1]) for row in figures_of(path)["estimates"]["rows"]}
    assert {("accuracy", "bundled:student"), ("accuracy", "b"), ("difference", "comparison")} <= measures
    stages = {"imitated": {"after": {"accuracy": known, "response_tokens": dict(known, value=34.0)}}}
    recipe = {"recipe": "cold_start", "summary": "Imitate, then distil.", "options": {"steps": 3}, "stages": stages}
    write_json(tmp_path / "recipe" / "summary.json", recipe)
    assert run_kind(tmp_path / "recipe") == "recipe"
    path = build_report(tmp_path / "recipe")
    rows = figures_of(path)["estimates"]["rows"]
    assert rows[0][:3] == ["accuracy", "stages imitated after", 0.5]
    assert rows[1][6] == "number"
    assert "Imitate, then distil." in text_of(path)


def test_a_run_without_metrics_or_teachers_has_a_sentence(tmp_path: Path) -> None:
    run = read_training(write_training(tmp_path / "run"))
    empty = run._replace(metrics=[], summary={}, run={"config": {}}, alarms=[])
    assert verdict(empty)["headline"] == "0 steps with no teacher"
    assert metric_figures([empty]) == []
    assert evaluation_figure([empty]) is None


def test_the_command_lays_training_runs_over_each_other_and_leaves_a_lone_diagnosis_out(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [write_training(tmp_path / name) for name in ("a", "b")]
    report(*folders, json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["comparison"], told["reason"], told["page"]) == (None, None, "comparison.html")
    assert {row[0] for row in figures_of(tmp_path / "comparison.html")["metric-loss"]["rows"]} == {"a", "b"}
    report(folders[0], run_folder, out=tmp_path / "mixed.html", json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["reason"], told["page"]) == (None, str(tmp_path / "mixed.html"))
    assert "Not compared" not in text_of(tmp_path / "mixed.html")
