"""Evaluations through the front door: what the summary says, files, resuming, what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from coin_world import LIMIT, CoinTask, build_coin, rate, run_coins
from failing_disk import Death, FailingDisk

from hydrometer.artifacts import read_json, read_table
from hydrometer.errors import RunFolderError, SpecError, UnknownNameError, VerifierError
from hydrometer.runs.progress import Silent
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score, VerifierFailure


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrometer.runs.drawing.round_size", lambda model, limit: 16)


def content(folder: Path) -> tuple[dict[str, Any], dict[str, Any], pl.DataFrame]:
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    for file in (run, summary):
        file["cost"].pop("wall_s")
    return run, summary, read_table(folder / "evaluation.parquet")


def assert_same(found: tuple[Any, Any, pl.DataFrame], expected: tuple[Any, Any, pl.DataFrame]) -> None:
    assert found[:2] == expected[:2]
    assert found[2].equals(expected[2])


def test_the_summary_is_recomputed_from_the_table() -> None:
    result = run_coins(samples=6, grading="relaxed", temperature=1.0)
    table, summary = result.table, result.summary
    means = table.group_by("question_id").agg(pl.col("correct").mean()).sort("question_id")["correct"]
    assert result.accuracy.value == pytest.approx(means.mean())
    assert result.accuracy.low is not None
    assert result.accuracy.low < result.accuracy.value
    assert list(result.pass_at) == [1, 2, 4]
    assert result.pass_at[1] == result.accuracy
    wrong = 6 - table.group_by("question_id").agg(pl.col("correct").sum()).sort("question_id")["correct"].cast(pl.Int64)
    assert result.pass_at[2].value == pytest.approx((1 - wrong * (wrong - 1) / 30).mean())
    for key, column in (
        ("strict_accuracy", "correct_strict"),
        ("relaxed_accuracy", "correct_relaxed"),
        ("parsed_share", "parsed"),
        ("truncated_share", "truncated"),
        ("response_tokens", "tokens"),
    ):
        assert summary[key]["value"] == pytest.approx(table[column].mean())
    assert (summary["questions"], summary["samples"], summary["task"], summary["model"]) == (12, 6, "coins", "coin")
    assert summary["strict_accuracy"]["value"] < summary["relaxed_accuracy"]["value"]
    assert summary["cost"]["rollouts"] == table.height == 72
    assert summary["cost"]["generated_tokens"] == table["tokens"].sum()
    assert result.folder is None
    assert result.difference is None
    assert json.dumps(summary, allow_nan=False)


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_coins()
    assert list(tmp_path.iterdir()) == []


def test_greedy_takes_the_likelier_letter_once() -> None:
    result = run_coins(greedy=True, samples=None, grading="relaxed", temperature=3.0)
    assert result.table.height == 12
    expected = [rate(i) > 0.5 for i in range(12) if rate(i) != 0.5]
    found = [row["correct"] for i, row in enumerate(result.table.to_dicts()) if rate(i) != 0.5]
    assert found == expected
    assert list(result.pass_at) == [1]
    with pytest.raises(SpecError, match="--samples 4 would all be the same"):
        run_coins(greedy=True, samples=4)


def test_two_models_are_compared_on_the_same_random_numbers(tmp_path: Path) -> None:
    result = run_coins(against=build_coin(-0.2, name="worse"), grading="relaxed", out=tmp_path / "run")
    assert result.difference is not None
    assert result.difference.value == pytest.approx(
        result.accuracy.value - result.summary["against"]["accuracy"]["value"]
    )
    assert result.difference.low is not None
    assert result.difference.low > 0
    assert result.summary["against"]["model"] == "worse"
    assert result.summary["comparison"]["mcnemar"] is None
    assert result.summary["comparison"]["relaxed_difference"] == result.summary["comparison"]["difference"]
    alone = run_coins(model=build_coin(-0.2, name="worse"), grading="relaxed").table
    together = read_table(tmp_path / "run" / "evaluation.parquet").filter(model="against")
    assert together.drop("model").equals(alone.drop("model"))
    assert list(read_json(tmp_path / "run" / "run.json")["models"]) == ["model", "against"]
    single = run_coins(against=build_coin(-0.2, name="worse"), samples=1)
    assert single.summary["comparison"]["mcnemar"]["only_second"] == 0


@pytest.mark.usefixtures("small_rounds")
def test_a_run_killed_at_any_write_resumes_to_the_unbroken_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"task": CoinTask(6), "against": build_coin(0.1, name="other")}
    run_coins(out=tmp_path / "unbroken", **settings)
    unbroken = content(tmp_path / "unbroken")
    died = []
    for fatal in count(1):
        folder, disk = tmp_path / f"run{fatal}", FailingDisk(fatal)
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch)
            try:
                run_coins(out=folder, **settings)
            except Death:
                died.append(disk.steps[-1])
            else:
                break
        run_coins(out=folder, resume=True, **settings)
        assert_same(content(folder), unbroken)
        shutil.rmtree(folder)
    assert died.count("journal line synced") == 1 + 2 * 3  # the start, and 36 responses of each model in threes
    assert {"evaluation.parquet in place", "summary.json beside", "run.json in place"} <= set(died)


def test_a_finished_run_is_rebuilt_without_asking_the_model(tmp_path: Path) -> None:
    run_coins(out=tmp_path / "run")
    expected = content(tmp_path / "run")
    for name in ("evaluation.parquet", "summary.json"):
        (tmp_path / "run" / name).unlink()

    def refuse(prompt: tuple[int, ...], response: tuple[int, ...]) -> Any:
        raise AssertionError("the model was asked again")

    dead = ScriptedModel(build_coin().tokens, refuse, name="coin")
    run_coins(model=dead, out=tmp_path / "run", resume=True, batch_size=3)
    found = content(tmp_path / "run")
    assert found[0].pop("config") == expected[0].pop("config") | {"batch_size": 3}
    assert_same(found, expected)


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import hydrometer.runs.drawing as drawing
drawing.round_size = lambda model, limit: 16
from coin_world import CoinTask, build_coin, run_coins
model = build_coin()
fast = model.next_probs
model.next_probs = lambda prompt, response: (time.sleep(2e-3), fast(prompt, response))[1]
run_coins(model=model, task=CoinTask(40), out="run")
"""


@pytest.mark.usefixtures("small_rounds")
def test_a_process_that_is_killed_loses_no_finished_round(tmp_path: Path) -> None:
    journal = tmp_path / "run" / "journal.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    kept = journal.read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    resumed = run_coins(task=CoinTask(40), out=tmp_path / "run", resume=True)
    assert journal.read_bytes().startswith(kept)
    assert resumed.table.equals(run_coins(task=CoinTask(40)).table)


def test_what_makes_another_run_is_not_resumed(tmp_path: Path) -> None:
    run_coins(out=tmp_path / "run")
    changed_model = build_coin()
    changed_model.fingerprint = "sha256:other"
    for changed, words in (
        ({"samples": 7}, "samples: was 6, now 7"),
        ({"seed": 3}, "seed: was 0, now 3"),
        ({"greedy": True, "samples": None}, "greedy: was False, now True"),
        ({"against": build_coin(name="b")}, "against: was None, now 'b'"),
        ({"task": CoinTask(13)}, "questions: was 12, now 13"),
        ({"model": changed_model}, r"model 'model' \(coin\): its files have changed"),
        ({"task": CoinTask(splits=("train",)), "split": "train"}, "split: was 'test', now 'train'"),
        ({"system_prompt": "Count."}, "system_prompt: was None, now 'Count.'"),
    ):
        with pytest.raises(RunFolderError, match=words):
            run_coins(out=tmp_path / "run", resume=True, **changed)
    with pytest.raises(RunFolderError, match="is not empty"):
        run_coins(out=tmp_path / "run")


def test_a_folder_of_a_diagnosis_is_not_resumed_as_an_evaluation(tmp_path: Path) -> None:
    run_coins(out=tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydrometer.evaluation.run._KIND", "diagnosis")
        with pytest.raises(RunFolderError, match="run folder: evaluation of schema 1, now diagnosis of schema 1"):
            run_coins(out=tmp_path / "run", resume=True)


def test_an_interrupted_run_says_so_and_goes_on(tmp_path: Path) -> None:
    model = build_coin()
    model.next_probs = lambda prompt, response: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run_coins(model=model, out=tmp_path / "run")
    assert read_json(tmp_path / "run" / "run.json")["status"] == "interrupted"
    run_coins(out=tmp_path / "run", resume=True)
    done = read_json(tmp_path / "run" / "run.json")
    assert (done["status"], done["kind"]) == ("done", "evaluation")
    assert (done["config"]["questions"], done["config"]["samples"]) == (12, 6)


def test_what_cannot_be_is_refused() -> None:
    for changed, kind, words in (
        ({"split": "diagnose"}, SpecError, "coins has no questions in the split 'diagnose'"),
        ({"split": "dev"}, SpecError, "Option 'split' is 'dev'"),
        ({"samples": 0}, SpecError, "Option 'samples' is 0"),
        ({"questions": 0}, SpecError, "Option 'questions' is 0"),
        ({"sample": 3}, SpecError, "Unknown option 'sample'"),
        ({"model": "bundled:studnt"}, UnknownNameError, "'studnt'. Did you mean student"),
        ({"against": "bundled:studnt"}, UnknownNameError, "'studnt'. Did you mean student"),
        ({"model": "bundled:early", "against": "bundled:early"}, SpecError, "is the evaluated model itself"),
        ({"task": "bundled:chian"}, UnknownNameError, "'bundled:chian'. Did you mean bundled:chain"),
        ({"plain_prompt": True}, SpecError, "a model object brings"),
        ({"resume": True}, SpecError, "name its folder with --out"),
        ({"chat_template": "other=x.jinja"}, UnknownNameError, "'other'"),
    ):
        with pytest.raises(kind, match=words):
            run_coins(**changed)


def test_more_questions_than_there_are_is_told() -> None:
    class Listening(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    result = run_coins(questions=50, progress=Listening())
    assert notes == ["coins has 12 questions in the split 'test', not 50."]
    assert result.summary["questions"] == 12
    assert run_coins(questions=5).table["question_id"].n_unique() == 5


def test_the_system_prompt_stands_before_the_question() -> None:
    seen: set[str] = set()
    model = build_coin()
    inner = model.next_probs

    def listen(prompt: tuple[int, ...], response: tuple[int, ...]) -> Any:
        seen.add(bytes(prompt).decode())
        return inner(prompt, response)

    model.next_probs = listen
    run_coins(model=model, system_prompt="Be brief.", questions=2)
    assert seen == {"system: Be brief.\nuser: coin 0", "system: Be brief.\nuser: coin 1"}


class BrokenTask(CoinTask):
    """A verifier that fails on the responses to the first `broken` questions."""

    def __init__(self, broken: int):
        super().__init__(6)
        self.broken = broken

    def verify(self, question: Question, response: str) -> Grades:
        if int(question.question_id[1:]) >= self.broken:
            return super().verify(question, response)
        wrong = Score(0.0, False, False)
        return Grades(wrong, wrong, VerifierFailure("time", "longer than 5 s"))


def test_a_verifier_that_fails_is_told_and_one_that_always_fails_is_an_error(tmp_path: Path) -> None:
    some = run_coins(task=BrokenTask(2)).summary["warnings"]
    assert some[-1].startswith("The verifier ran out of time on 12 responses, counted as wrong; the first, on question")
    with pytest.raises(VerifierError, match=r"failed on all 36 responses, last on question 'c005'"):
        run_coins(task=BrokenTask(6), out=tmp_path / "run")
    assert read_table(tmp_path / "run" / "evaluation.parquet").height == 36


def test_truncation_unread_answers_and_differing_gradings_are_told() -> None:
    warnings = run_coins(samples=20, max_response_tokens=3).summary["warnings"]
    assert any("hit the length limit" in text and "coin" in text for text in warnings)
    assert any("No answer could be read" in text for text in warnings)
    assert any(
        "Strict and relaxed grading differ" in text and "Strict grading was counted" in text for text in warnings
    )


def test_a_task_given_as_an_object_may_be_graded_by_another_verifier() -> None:
    questions = [Question("q", "t", (Message("user", "coin 6"),), "y")]

    class One(CoinTask):
        def questions(self, split: str) -> list[Question]:
            return questions

    result = run_coins(task=One(), verifier="exact", samples=8)
    assert result.table["correct"].to_list() == [text == "y" for text in result.table["text"]]
    assert result.accuracy.reason == "fewer_than_5_questions"
    assert result.table["tokens"].max() <= LIMIT
