"""Both gradings through a whole run: which one counts, what is stored, what is said, what survives a resume."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scripted_worlds import TINY, LetterTask, is_right, run_world

from hydrometer.artifacts import read_journal, read_json
from hydrometer.errors import UserError
from hydrometer.types import Grades, Question, Score, VerifierFailure

NOTHING = Score(0.0, False, False)


class LooseTask(LetterTask):
    """Strict also wants the answer to end in "a"; what ends in "cc" makes the verifier fail."""

    def verify(self, question: Question, response: str) -> Grades:
        if response.endswith("cc"):
            return Grades(NOTHING, NOTHING, VerifierFailure("raised", "ValueError: two c"))
        right = is_right(int(question.question_id[1:]), response)
        relaxed = Score(float(right), right, True)
        return Grades(relaxed if response.endswith("a") else NOTHING, relaxed)


OPTIONS: dict[str, Any] = TINY | {"questions": 4, "rollouts": 24}


@pytest.mark.parametrize("grading", ["strict", "relaxed"])
def test_one_grading_counts_and_both_are_stored(tmp_path: Path, grading: str) -> None:
    run = run_world(tmp_path / "run", **OPTIONS, task=LooseTask(), grading=grading)
    rollouts = run.table("rollouts")
    verdicts = [
        LooseTask().verify(Question(q, "t", (), "right"), t) for q, t in rollouts.select("question_id", "text").rows()
    ]
    assert rollouts["correct_strict"].to_list() == [grades.strict.correct for grades in verdicts]
    assert rollouts["correct_relaxed"].to_list() == [grades.relaxed.correct for grades in verdicts]
    assert rollouts["correct"].to_list() == rollouts[f"correct_{grading}"].to_list()
    assert rollouts["correct_relaxed"].sum() > rollouts["correct_strict"].sum() > 0
    base = rollouts.filter(kind="base").group_by("question_id", maintain_order=True)
    counted = base.agg(pl.col("correct_strict").sum(), pl.col("correct_relaxed").sum(), pl.col("correct").sum())
    assert run.table("questions").select(counted.columns).equals(counted.cast({pl.UInt32: pl.Int64}))
    parsed = {"strict": 0, "relaxed": 0}
    for (kind,), grades in zip(rollouts.select("kind").rows(), verdicts, strict=True):
        for name in parsed if kind == "base" else ():
            parsed[name] += grades.under(name).parsed  # type: ignore[arg-type]
    assert run.table("questions")["unparsed"].sum() == 4 * 24 - parsed[grading]


def test_the_warnings_say_where_gradings_differ_and_the_verifier_failed(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **OPTIONS, task=LooseTask())
    rollouts = run.table("rollouts")
    base = rollouts.filter(kind="base")
    differ = (base["correct_strict"] != base["correct_relaxed"]).sum()
    failed = rollouts["text"].str.ends_with("cc").sum()
    text = "\n".join(run.summary["warnings"])
    assert failed > 1
    assert f"Strict and relaxed grading differ on {differ} of 96 base rollouts" in text
    assert "This run counted strict grading, so what it measured is the answer and its form together" in text
    assert f"The verifier raised an exception on {failed} responses, counted as wrong; the first, on question" in text
    assert "ValueError: two c" in text
    assert text.count("The verifier raised") == 1


def test_a_run_without_such_trouble_says_nothing_of_it(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **TINY)
    assert not any("grading" in text or "verifier" in text for text in run.summary["warnings"])
    rollouts = run.table("rollouts")
    assert rollouts["correct"].equals(rollouts["correct_strict"], check_names=False)


def test_failures_and_gradings_survive_a_resume(tmp_path: Path) -> None:
    first = run_world(tmp_path / "run", **OPTIONS, task=LooseTask())
    journal = tmp_path / "run" / "journal.jsonl"
    kept = read_journal(journal)[0]
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(kept) // 2 + 1]))
    again = run_world(tmp_path / "run", **OPTIONS, task=LooseTask(), resume=True)
    assert again.table("rollouts").equals(first.table("rollouts"))
    assert again.summary["warnings"] == first.summary["warnings"]


def test_a_pilot_uses_the_grading_of_the_run_and_counts_failures(tmp_path: Path) -> None:
    pilots = {}
    for grading in ("strict", "relaxed"):
        options = OPTIONS | {"pilot": 12, "pilot_low": 0.05, "pilot_high": 0.95, "grading": grading}
        run = run_world(tmp_path / grading, **options, task=LooseTask())
        records, _ = read_journal(tmp_path / grading / "journal.jsonl")
        rounds = [record for record in records if record["round"] == "pilot"]
        pilots[grading] = {name: [one for record in rounds for one in record[name]] for name in ("correct", "failures")}
    assert sum(pilots["strict"]["correct"]) < sum(pilots["relaxed"]["correct"])
    assert pilots["strict"]["failures"] == pilots["relaxed"]["failures"]
    failed = run.table("rollouts")["text"].str.ends_with("cc").sum() + len(pilots["relaxed"]["failures"])
    assert any(f"raised an exception on {failed} responses" in text for text in run.summary["warnings"])


class BrokenTask(LetterTask):
    def verify(self, question: Question, response: str) -> Grades:
        return Grades(NOTHING, NOTHING, VerifierFailure("raised", "ZeroDivisionError: division by zero"))


def test_a_verifier_that_never_works_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"failed on all \d+ responses.*ZeroDivisionError: division by zero"):
        run_world(tmp_path / "run", **TINY, task=BrokenTask())
    assert read_json(tmp_path / "run" / "run.json")["status"] == "done"


def test_a_task_object_can_be_given_another_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_letters.py").write_text("def check(question, response):\n    return response.count('a') >= 2\n")
    monkeypatch.chdir(tmp_path)
    run = run_world(tmp_path / "run", **OPTIONS, verifier="my_letters:check")
    rollouts = run.table("rollouts")
    assert rollouts["correct"].to_list() == [text.count("a") >= 2 for text in rollouts["text"]]
    with pytest.raises(UserError, match="Unknown verifier 'my_letters'"):
        run_world(tmp_path / "other", **OPTIONS, verifier="my_letters")
