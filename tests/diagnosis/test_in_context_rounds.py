"""Rollouts that teachers write from their own prompts: exact probabilities, fresh baselines, cost, skips, resume."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scripted_worlds import (
    EOS,
    LIMITS,
    TINY,
    TOKENS,
    LetterTask,
    build_planted,
    build_student,
    is_right,
    leave_plain_reports,
    question_number,
    run_world,
    student_probs,
    success_of,
)

import hydrometer
import hydrometer.report.analyses as report_analyses
import hydrometer.runs.drawing as drawing
from hydrometer.artifacts import TABLES, read_journal, read_json, read_table
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.plan import plan_run
from hydrometer.diagnosis.setup import build_instruments
from hydrometer.errors import SpecError
from hydrometer.report import build_view, read_run
from hydrometer.sampling import ScriptedModel
from hydrometer.success.enumeration import enumerate_success

SETTINGS: dict[str, Any] = {**TINY, "objective": ["reverse_kl"]}


@cache
def swayed_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """A student that writes more b's when it is told the answer."""
    weights = student_probs(prompt, response) * np.array([1.0, 4.0, 1.0, 1.0])
    told = b"answer is" in bytes(prompt)
    return weights / weights.sum() if told else student_probs(prompt, response)


def exact_success(probs: Any, prompt: tuple[int, ...]) -> float:
    def next_logprobs(prefixes: list[tuple[int, ...]]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(np.stack([probs(prompt, prefix) for prefix in prefixes]))

    def verify(ids: tuple[int, ...], truncated: bool) -> bool:
        return is_right(question_number(prompt), "".join(TOKENS[i] for i in ids if i != EOS))

    found = enumerate_success(next_logprobs, verify, LIMITS)
    return 0.5 * (found.low + found.high)


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_plain_reports(monkeypatch)


def test_every_accuracy_scatters_around_the_exact_one(tmp_path: Path) -> None:
    count = 150
    planted = build_planted(2.0)
    run = run_world(tmp_path / "run", **SETTINGS, teacher={"planted": planted}, context_rollouts=count)
    rows = run.table("context_rollouts")
    assert rows.height == 3 * 2 * count
    exact: dict[str, list[float]] = {"student": [], "planted": []}
    for number in range(3):
        prompt = build_student().render(LetterTask().questions("diagnose")[number].prompt)
        exact["student"].append(success_of(prompt, ()))
        exact["planted"].append(exact_success(planted.next_probs, prompt))
    assert min(np.subtract(exact["planted"], exact["student"])) > 0.1, "else this world shows nothing"
    for name, truths in exact.items():
        for number, truth in enumerate(truths):
            mine = rows.filter(teacher=name, question_id=f"q{number:02d}")
            assert abs(mine["correct"].sum() - count * truth) < 4 * np.sqrt(count * truth * (1 - truth)), (name, number)
            assert mine["rollout_id"].to_list() == list(range(count))
            assert all(
                is_right(number, text) == correct for text, correct in mine.select("text", "correct").iter_rows()
            )
    entries = {row["teacher"]: row for row in run.summary["analyses"]["in_context"] if row["bin"] is None}
    assert entries["student"]["gain"] is None
    assert entries["planted"]["n_rollouts"] == 3 * count
    gained = entries["planted"]["accuracy"]["value"] - entries["student"]["accuracy"]["value"]
    assert entries["planted"]["gain"]["value"] == pytest.approx(gained)
    assert entries["planted"]["n_correct"] == rows.filter(teacher="planted")["correct"].sum()


def test_a_teacher_writes_from_its_own_prompt_and_the_baseline_from_the_students(tmp_path: Path) -> None:
    count = 100
    student = ScriptedModel(TOKENS, swayed_probs, name="swayed")
    teachers = ["told=self+answer", "plain=self"]
    run = run_world(tmp_path / "run", **SETTINGS, student=student, teacher=teachers, context_rollouts=count)
    shares = {}
    for name in ("told", "plain", "student"):
        text = "".join(run.table("context_rollouts").filter(teacher=name)["text"])
        shares[name] = text.count("b") / len(text)
    assert shares["told"] > shares["plain"] + 0.2
    assert abs(shares["plain"] - shares["student"]) < 0.1
    texts = {
        name: run.table("context_rollouts").filter(teacher=name, question_id="q00")["text"].to_list()
        for name in ("plain", "student")
    }
    base = run.table("rollouts").filter(kind="base", question_id="q00").sort("rollout_id")["text"].to_list()
    assert texts["plain"] != texts["student"], "drawn apart"
    assert texts["student"][: len(base)] != base, "the base rollouts are not used again"


def test_nothing_else_of_a_run_changes_and_the_cost_is_counted(tmp_path: Path) -> None:
    without = run_world(tmp_path / "without", **SETTINGS)
    with_them = run_world(tmp_path / "with", **SETTINGS, context_rollouts=5)
    for name in TABLES:
        if name not in ("context_rollouts", "scores"):
            assert with_them.table(name).equals(without.table(name)), name
    others = [
        run.table("scores").filter(~pl.col("score").is_in(["accuracy_gain", "new_knowledge", "teacher_accuracy"]))
        for run in (with_them, without)
    ]
    assert others[0].equals(others[1])
    assert without.table("context_rollouts").is_empty()
    assert without.summary["analyses"]["in_context"] == []
    rows = with_them.table("context_rollouts")
    spent, before = with_them.summary["cost"], without.summary["cost"]
    assert spent["rollouts"] - before["rollouts"] == rows.height == 3 * 2 * 5
    assert spent["generated_tokens"] - before["generated_tokens"] == rows["tokens"].sum()


def test_the_report_reads_every_analysis_of_a_real_run(tmp_path: Path) -> None:
    """The tables of the page are built from these very entries, so that a renamed key fails here."""
    teachers = ["told=self+answer", "demo=self+correct_demo", "plain=self"]
    student = ScriptedModel(TOKENS, swayed_probs, name="swayed")
    settings = SETTINGS | {"objective": ["reverse_kl", "minillm"]}  # which scores whole responses too
    run = run_world(tmp_path / "run", **settings, student=student, teacher=teachers, context_rollouts=3)
    view, data = build_view(read_run(run.folder))
    figures = {figure.key: figure for figure in report_analyses.build_analyses(run.summary)[0]}
    assert list(figures) == [analysis.name for analysis in report_analyses.ANALYSES]
    for figure in figures.values():
        assert figure.table is not None
        assert all(len(row) == len(figure.table.columns) for row in figure.table.rows)
    assert view["advice"]["sentence"] == run.summary["analyses"]["advice"]["sentence"]
    drawn = {(row[0], row[1]): row[3:5] for row in figures["in-context"].rows}
    for entry in run.summary["analyses"]["in_context"]:
        if entry["bin"] is None and entry["teacher"] != "student":
            assert drawn[entry["teacher"], "Accuracy here"] == entry["these_questions"]
    demo = next(question for question in data["tokens"]["questions"] if question["contexts"]["demo"]["demos"])
    context = demo["contexts"]["demo"]
    shown = run.table("rollouts").filter(question_id=demo["id"], rollout_id=context["demos"][0])
    assert shown["kind"].to_list() == ["demo"]
    assert shown["text"][0] in demo["prompts"][context["prompt"]]
    assert context["by"] == "student"


def test_a_skipped_teacher_has_no_rollouts_for_that_question(tmp_path: Path) -> None:
    task = LetterTask(answer=None)
    run = run_world(
        tmp_path / "run", **SETTINGS, teacher=["told=self+answer", "plain=self"], task=task, context_rollouts=4
    )
    assert run.table("contexts").filter(teacher="told")["skipped"].all()
    assert set(run.table("context_rollouts")["teacher"]) == {"plain", "student"}


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_run_cut_off_among_them_goes_on_to_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(drawing, "round_size", lambda model, limit: 4)
    run_world(tmp_path / "whole", **SETTINGS, context_rollouts=3)
    records, _ = read_journal(tmp_path / "whole" / "journal.jsonl")
    assert sum(record["round"] == "in_context" for record in records) == 2 * 3
    journal = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(journal) if b'"round":"in_context"' in line)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "journal.jsonl").write_bytes(b"".join(journal[: first + kept]) + journal[first + kept][:40])
    run_world(tmp_path / "cut", **SETTINGS, context_rollouts=3, resume=True)
    for name in TABLES:
        cut, whole = (read_table(tmp_path / part / f"{name}.parquet") for part in ("cut", "whole"))
        assert cut.equals(whole), name
    summaries = [read_json(tmp_path / part / "summary.json")["analyses"]["in_context"] for part in ("cut", "whole")]
    assert summaries[0] == summaries[1] != []


def test_a_plan_counts_them_for_every_teacher_and_the_student() -> None:
    options: dict[str, Any] = {"questions": 3, "rollouts": 10, "allocation": "on_policy", "min_visits": 2}
    teachers = ("self+answer", "self")
    plans = [
        plan_run(
            build_instruments(
                DiagnoseConfig(**options, student="s", task="letters", teacher=teachers, context_rollouts=count),
                student=build_student(),
                task=LetterTask(),
            )
        )
        for count in (0, 7)
    ]
    assert plans[1].rollouts - plans[0].rollouts == 3 * 7 * 3
    assert plans[1].generated_tokens > plans[0].generated_tokens


def test_a_length_limit_that_cuts_teachers_off_is_told(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **SETTINGS, context_rollouts=10, max_response_tokens=2)
    [told] = [text for text in run.summary["warnings"] if "of 'planted' for in-context accuracy hit" in text]
    cut = run.table("context_rollouts").filter(teacher="planted")["truncated"].sum()
    assert told.startswith(f"{cut} of 30 rollouts")


def test_a_teacher_that_cannot_write_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    class Scores:
        def __init__(self) -> None:
            self.model = build_planted(1.0)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.model, name)

    with pytest.raises(SpecError, match=r"'mute' \(planted \+1\) can score tokens but not write.*--context-rollouts 2"):
        run_world(tmp_path / "run", **SETTINGS, teacher={"mute": Scores()}, context_rollouts=2)
    assert not (tmp_path / "run").exists()


def test_the_answer_raises_the_bundled_student_and_a_wrong_one_lowers_it(tmp_path: Path) -> None:
    run = hydrometer.diagnose(
        out=tmp_path / "run",
        teacher=["right=self+answer", "wrong=self+wrong_answer"],
        objective=["reverse_kl"],
        questions=12,
        rollouts=8,
        allocation="on_policy",
        min_visits=2,
        context_rollouts=12,
        check=False,
    )
    entries = {row["teacher"]: row for row in run.summary["analyses"]["in_context"] if row["bin"] is None}
    assert entries["right"]["gain"]["interval"][0] > 0.0
    assert entries["wrong"]["gain"]["interval"][1] < 0.0
