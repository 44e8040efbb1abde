"""What can go wrong with a diagnosis, told in words: what was found, what was expected, what to do. Nothing is lost."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scripted_worlds import TINY, TOKENS, LetterTask, build_planted, build_student, run_world, student_probs

import hydrometer
from hydrometer.artifacts import open_run_folder, read_json, read_table
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.run import run_diagnosis
from hydrometer.diagnosis.setup import build_instruments
from hydrometer.errors import (
    DiskError,
    MemoryLimitError,
    RunFolderError,
    SpecError,
    TokenMapError,
    UnknownNameError,
    UserError,
)
from hydrometer.runs.progress import Silent
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score


def test_different_token_maps_list_the_first_that_differ(tmp_path: Path) -> None:
    teacher = ScriptedModel(("b", "a", "c", "<eos>"), student_probs, name="swapped")
    with pytest.raises(TokenMapError) as caught:
        run_world(tmp_path / "run", **TINY, teacher={"swapped": teacher})
    assert "id 0: student 'a', swapped 'b'" in str(caught.value)
    assert "2 token ids" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_larger_padded_vocabulary_is_fine_and_changes_nothing(tmp_path: Path) -> None:
    def padded(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        return np.append(student_probs(prompt, response), [0.0, 0.0])

    teacher = ScriptedModel((*TOKENS, "<pad1>", "<pad2>"), padded, name="padded")
    run = run_world(tmp_path / "run", **TINY, teacher={"padded": teacher})
    assert run.table("alignment")["direction_norm"].max() < 1e-6


SMALL: dict[str, Any] = {"questions": 8, "rollouts": 16, "paths": 1, "visits": 6, "min_visits": 6}


class DemoTask(LetterTask):
    """Question 1 is never right, so no demonstration can be had for it; question 2 always is."""

    def verify(self, question: Question, response: str) -> Grades:
        if question.question_id in ("q01", "q02"):
            right = question.question_id == "q02"
            return Grades.same(Score(float(right), right, True))
        return super().verify(question, response)


def test_a_context_without_a_demonstration_skips_that_question_and_counts_it(tmp_path: Path) -> None:
    teachers = ["self+correct_demo", "self+answer"]
    run = run_world(tmp_path / "run", teacher=teachers, task=DemoTask(), **SMALL)
    contexts = run.table("contexts")
    skipped = contexts.filter("skipped")
    assert skipped.select("question_id", "teacher").rows() == [("q01", "self+correct_demo")]
    assert "no correct demonstration" in skipped["reason"][0]
    assert skipped["prompt"].to_list() == [None]
    assert any("'self+correct_demo' was skipped for 1 of 8 questions" in text for text in run.summary["warnings"])
    scored = run.table("alignment").group_by("teacher").agg(pl.col("question_id").unique())
    by_teacher = dict(scored.iter_rows())
    assert "q01" not in by_teacher["self+correct_demo"]
    shown = contexts.filter(teacher="self+correct_demo", skipped=False)
    demos = {(row["question_id"], row["demo_rollout_ids"][0]) for row in shown.iter_rows(named=True)}
    rollouts = {(r["question_id"], r["rollout_id"]): r for r in run.table("rollouts").iter_rows(named=True)}
    paths = {(r["question_id"], r["text"]) for r in rollouts.values() if r["kind"] == "path"}
    for key in demos:
        assert rollouts[key]["kind"] == "demo"
        assert rollouts[key]["correct"]
        assert (key[0], rollouts[key]["text"]) not in paths


def context_sensitive(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    """Flatter where the prompt holds more than the question, so that a context is a teacher of its own."""
    text = bytes(prompt).decode()
    lines = text.split("\n")
    question = tuple(lines[0].encode())
    p = student_probs(question, response)
    if len(lines) == 1 or p.max() == 1.0:
        return p
    weights = p ** (0.5 if "wrong" in text else 1.5)
    return weights / weights.sum()


def test_a_ranking_is_over_the_questions_that_all_teachers_share(tmp_path: Path) -> None:
    student = ScriptedModel(TOKENS, context_sensitive, name="context-sensitive")
    teachers = ["self+correct_wrong_demo", "self+answer"]
    run = run_world(tmp_path / "run", student=student, teacher=teachers, task=DemoTask(), **SMALL)
    skipped = run.table("contexts").filter("skipped")
    assert set(skipped["teacher"]) == {"self+correct_wrong_demo"}
    assert set(skipped["question_id"]) >= {"q01", "q02"}
    text = " ".join(run.summary["warnings"])
    nodes = run.table("nodes").filter(pl.col("kept_candidates") >= 2)
    lost = nodes.filter(pl.col("question_id").is_in(skipped["question_id"].to_list()))
    assert f"leaves out {lost.height} nodes and {skipped.height} questions" in text


def test_when_every_teacher_is_skipped_everywhere_the_reasons_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_world(tmp_path / "run", **TINY, teacher=["self+solution", "self+wrong_answer"])
    assert "self+solution: the question has no reference solution" in str(caught.value)
    assert read_table(tmp_path / "run" / "teacher_scores.parquet").is_empty()
    assert read_table(tmp_path / "run" / "candidates.parquet").height > 0


class SureTask(LetterTask):
    """Every response is right for even questions and wrong for odd ones."""

    def verify(self, question: Question, response: str) -> Grades:
        right = int(question.question_id[1:]) % 2 == 0
        return Grades.same(Score(float(right), right, True))


def test_questions_always_right_or_always_wrong_end_the_run_with_a_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="All base rollouts are right, or all wrong, in each of the 3 questions"):
        run_world(tmp_path / "run", **TINY, task=SureTask())
    counted = read_json(tmp_path / "run" / "run.json")["questions"]
    assert counted["uninformative"] == 3
    assert counted["uninformative_ids"] == ["q00", "q01", "q02"]
    assert read_table(tmp_path / "run" / "questions.parquet")["informative"].to_list() == [False] * 3


def test_some_uninformative_questions_are_analysed_and_counted(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **TINY | {"questions": 6}, task=DemoTask())
    counted = read_json(run.folder / "run.json")["questions"]
    assert (counted["analysed"], counted["uninformative_ids"]) == (6, ["q01", "q02"])
    nodes = run.table("nodes").filter(question_id="q01")
    assert nodes.filter(pl.col("kept_candidates") >= 2)["reason"].unique().to_list() == ["equal_success_rates"]


def test_pilot_rollouts_leave_uninformative_questions_out_and_are_never_used_again(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **TINY | {"questions": 4, "pilot": 12}, task=DemoTask())
    counted = read_json(run.folder / "run.json")["questions"]
    assert set(counted["left_out_ids"]) >= {"q01", "q02"}
    assert set(run.table("questions")["question_id"]).isdisjoint(counted["left_out_ids"])
    assert run.table("questions")["rollouts"].to_list() == [8] * 4
    stored = run.table("rollouts").height
    assert run.summary["cost"]["rollouts"] == stored + 12 * counted["piloted"]


def test_no_question_in_the_pilot_range_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"None of the 12 questions of letters has a pilot success rate between 0\.15"):
        run_world(tmp_path / "run", **TINY, pilot=6, task=SureTask())


def test_a_budget_too_small_for_an_eligible_node_keeps_its_tables_and_says_what_to_turn(tmp_path: Path) -> None:
    thin = TINY | {"allocation": "on_policy", "min_visits": 40}
    for resume in (False, True):
        with pytest.raises(UserError, match=r"(?s)No node has two candidates with >= 40 visits.*--min-visits \(now 40"):
            run_world(tmp_path / "run", **thin, resume=resume)
    candidates = read_table(tmp_path / "run" / "candidates.parquet")
    assert candidates["visits"].max() > 0
    assert not candidates["kept"].any()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB"),
        MemoryError(),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_out_of_memory_names_the_option_and_keeps_what_was_paid_for(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr("hydrometer.diagnosis.corridor.score_paths", fail)
        with pytest.raises(MemoryLimitError, match=r"Out of memory .*--batch-size.*--resume"):
            run_world(tmp_path / "run", **TINY)
    run = run_world(tmp_path / "run", **TINY, resume=True)
    assert run.table("rollouts").filter(kind="base").height == 24


def test_other_runtime_errors_stay_bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("expected a contiguous memory format")

    monkeypatch.setattr("hydrometer.diagnosis.corridor.score_paths", fail)
    with pytest.raises(RuntimeError, match="contiguous"):
        run_world(tmp_path / "run", **TINY)


def test_a_locked_folder_and_a_folder_of_something_else_are_refused(tmp_path: Path) -> None:
    with open_run_folder(tmp_path / "run", resume=False), pytest.raises(RunFolderError, match="in use by another"):
        run_world(tmp_path / "run", **TINY, resume=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("not ours")
    with pytest.raises(RunFolderError, match="not empty"):
        run_world(tmp_path / "notes", **TINY)
    with pytest.raises(RunFolderError, match="holds other files"):
        run_world(tmp_path / "notes", **TINY, resume=True)
    assert [entry.name for entry in (tmp_path / "notes").iterdir()] == ["todo.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="is a file"):
        run_world(tmp_path / "file", **TINY)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"objective": ["revrse_kl"]}, UnknownNameError, "'revrse_kl'. Did you mean reverse_kl"),
        ({"objective": ["sft"]}, SpecError, "'sft' is for training only"),
        ({"objective": ["reverse_kl", "reverse_kl"]}, SpecError, "'reverse_kl' is given twice"),
        ({"objective": []}, SpecError, "at least one objective"),
        ({"task": "bundled:chian"}, UnknownNameError, "'bundled:chian'. Did you mean bundled:chain"),
        ({"teacher": ["self+anser"]}, UnknownNameError, "context 'anser'. Did you mean answer"),
        ({"teacher": ["self+empty:rule"]}, SpecError, "rule"),
        ({"teacher": ["x=self+answer", "x=self+wrong_answer"]}, SpecError, "Two teachers are called 'x'"),
        ({"teacher": ["t=bundled:expart"]}, UnknownNameError, "'expart'. Did you mean expert"),
        ({"teacher": ["t=bundeld:expert"]}, UnknownNameError, "'bundeld:expert'. Did you mean bundled:expert"),
        ({"teacher": []}, SpecError, "at least one teacher"),
        ({"questions": 0}, SpecError, "'questions' is 0: input should be greater than or equal to 1"),
        ({"question": 3}, SpecError, "Unknown option 'question'"),
        ({"allocation": "adaptive"}, SpecError, "'allocation' is 'adaptive': input should be 'fixed', 'windowed'"),
        ({"candidate_threshold": 1.5}, SpecError, "'candidate_threshold' is 1.5"),
        ({"visits": 6}, SpecError, "--visits 6 brings no candidate to --min-visits 20"),
        ({"pilot_low": 0.8, "pilot_high": 0.2}, SpecError, "--pilot-low 0.8 is above --pilot-high 0.2"),
        ({"temperature": float("inf")}, SpecError, "'temperature' is inf"),
        ({"epsilon": float("nan")}, SpecError, "'epsilon' is nan"),
        ({"seed": 10**20}, SpecError, "'seed' is 100000000000000000000"),
        ({"teacher": {}}, SpecError, "at least one teacher"),
        ({"teacher": {"student": build_planted(1.0)}}, SpecError, "cannot be called 'student'"),
        ({"teacher": {"no teacher": build_planted(1.0)}}, SpecError, "cannot be called 'no teacher'"),
    ],
)
def test_what_is_not_understood_is_quoted(options: dict[str, Any], error: type, words: str, tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        run_world(tmp_path / "run", **options)
    assert words in str(caught.value)
    assert 1 <= len(str(caught.value).splitlines()) <= 10
    assert not (tmp_path / "run").exists()


def test_one_spec_may_be_given_as_text(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **TINY, teacher="self+answer", objective="reverse_kl")
    assert run.table("teacher_scores")["teacher"].unique().to_list() == ["self+answer"]
    assert run.table("alignment")["objective"].unique().to_list() == ["reverse_kl"]


def test_a_task_with_fewer_questions_says_so_and_goes_on(tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    run = run_world(tmp_path / "run", **TINY | {"questions": 9}, task=LetterTask(2), progress=Listener())
    assert run.table("questions").height == 2
    assert said[1:] == ["letters has 2 questions to diagnose, not 9."], "what the check says comes first"


def run_limited(tmp_path: Path, limits: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """This world in a process of its own, with resource limits set once everything is loaded."""
    script = f"""
        import resource, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from scripted_worlds import run_world, TINY
        from hydrometer.errors import UserError
        import hydrometer.diagnosis.run
        {limits}
        try:
            run_world({str(tmp_path / "run")!r}, **TINY | {options!r})
        except UserError as error:
            print(type(error).__name__, error)
            sys.exit(2)
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.parametrize("limit", [600, 3000, 9000])
def test_a_full_disk_loses_nothing_and_the_run_goes_on_when_there_is_room(limit: int, tmp_path: Path) -> None:
    """Files may grow to `limit` bytes: not even the start record fits, then some rounds do, then nearly all."""
    full = run_limited(tmp_path, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    assert full.returncode == 2, full.stderr
    assert full.stdout.startswith("DiskError No space left while writing")
    assert "--resume" in full.stdout
    kept = (tmp_path / "run" / "journal.jsonl").read_bytes()
    run = run_world(tmp_path / "run", **TINY, resume=True)
    assert (tmp_path / "run" / "journal.jsonl").read_bytes().startswith(kept)
    straight = run_world(tmp_path / "straight", **TINY)
    for name in ("rollouts", "candidates", "alignment"):
        assert run.table(name).equals(straight.table(name))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises((DiskError, RunFolderError), match="/proc/nowhere"):
        run_world(Path("/proc/nowhere/run"), **TINY)


def test_models_given_as_objects_are_cut_to_the_shared_range_without_touching_the_callers(tmp_path: Path) -> None:
    config = DiagnoseConfig(**TINY, student="s", teacher=("t",), task="letters")
    student, teacher = build_student(), ScriptedModel((*TOKENS, "<pad1>", "<pad2>"), student_probs, name="padded")
    instruments = build_instruments(config, student=student, teachers={"t": teacher}, task=LetterTask())
    assert instruments.teachers[0].model.vocab_size == 4
    assert teacher.vocab_size == 6
    run = run_diagnosis(instruments, tmp_path / "run", resume=False, progress=Silent())
    assert run.summary["cost"]["rollouts"] > 0
    assert hydrometer.__version__ in read_json(tmp_path / "run" / "run.json")["versions"]["hydrometer"]


def test_a_message_with_an_unusual_prompt_survives_the_tables(tmp_path: Path) -> None:
    class Odd(LetterTask):
        def questions(self, split: str) -> Sequence[Question]:
            ids = ("../../etc/passwd", "a\x00b\x1b[31m", "[red]q[/red]", "<script>alert(1)</script>", "  ")
            return [
                Question(f"{i}", "odd", (Message("user", f"question {n}"),), "<b>" * 20_000) for n, i in enumerate(ids)
            ]

        def verify(self, question: Question, response: str) -> Grades:
            right = response.count("a") > 1
            return Grades.same(Score(float(right), right, True))

    run = run_world(tmp_path / "run", **TINY | {"questions": 5}, task=Odd())
    assert set(run.table("questions")["question_id"]) == {q.question_id for q in Odd().questions("diagnose")}
    assert {p.name for p in tmp_path.iterdir()} == {"run"}
    page = (run.folder / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page
