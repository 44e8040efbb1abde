"""Branches as compressed columns: what comes out is what went in, and it takes hardly any memory."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hydrometer.artifacts import TABLES, read_table, write_parts
from hydrometer.diagnosis import branches
from hydrometer.diagnosis.branches import Branches, pack, rollout_rows
from hydrometer.diagnosis.state import QuestionState
from hydrometer.diagnosis.tables import pack_rollouts
from hydrometer.types import Grades, Message, Question, Rollout, RolloutKind, Score, VerifierFailure

QUESTION = Question("q-7", "letters", (Message("user", "which?"),), "a")


def some_rollouts(
    count: int, *, kind: RolloutKind = "branch", first: int = 0, question: str = "q-7"
) -> list[tuple[Rollout, Grades]]:
    rng = np.random.default_rng(first)
    found = []
    for number in range(first, first + count):
        ids = tuple(rng.integers(0, 60, rng.integers(1, 50)).tolist())
        strict, relaxed = (Score(float(s), correct=bool(s), parsed=bool(p)) for s, p in rng.integers(0, 2, (2, 2)))
        failure = VerifierFailure("time", f"{number} s") if number % 100 == 3 else None
        rollout = Rollout(
            question_id=question,
            rollout_id=number,
            kind=kind,
            token_ids=ids,
            text="".join(chr(97 + i % 26) for i in ids) + ("é\n" if number % 7 == 0 else ""),
            score=strict.value,
            correct=strict.correct,
            truncated=bool(number % 2),
            parent_rollout_id=number % 5 if kind == "branch" else None,
            forced_tokens=min(number % 9, len(ids)) if kind == "branch" else 0,
        )
        found.append((rollout, Grades(strict, relaxed, failure)))
    return found


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
def test_what_comes_out_is_what_went_in(count: int):
    given = some_rollouts(count)
    kept = Branches()
    for rollout, grades in given:
        kept.add(rollout, grades)
    assert len(kept) == count
    assert list(kept) == [rollout for rollout, _ in given]
    assert kept.failures == [grades.failure for _, grades in given if grades.failure is not None]
    assert kept.rows().equals(rollout_rows(given))


def test_a_rollout_takes_less_than_a_tenth_of_what_it_takes_as_an_object():
    kept = Branches()
    for rollout, grades in some_rollouts(1024):
        kept.add(rollout, grades)
    assert not kept._loose
    assert sum(map(len, kept._packed)) / 1024 < 110, "random tokens and texts; those of a model repeat each other"


def test_the_file_holds_every_rollout_by_question_and_id_under_the_counted_grading(tmp_path: Path):
    states, given = [], []
    for name in ("q-b", "q-a"):
        state = QuestionState(rename(name), ())
        for rollout, grades in [
            *some_rollouts(600, first=3, question=name),
            *some_rollouts(3, kind="base", question=name),
        ]:
            state.add(rollout, grades)
            given.append((rollout, grades))
        states.append(state)
    write_parts(tmp_path / "rollouts.parquet", pack_rollouts(states, "relaxed"))
    found = read_table(tmp_path / "rollouts.parquet")
    assert dict(found.schema) == dict(TABLES["rollouts"])
    given.sort(key=lambda pair: (pair[0].question_id, pair[0].rollout_id))
    assert found["question_id"].to_list() == [rollout.question_id for rollout, _ in given]
    assert found["rollout_id"].to_list() == [rollout.rollout_id for rollout, _ in given]
    assert found["token_ids"].to_list() == [list(rollout.token_ids) for rollout, _ in given]
    assert found["parsed"].to_list() == [grades.relaxed.parsed for _, grades in given]
    assert found["correct_strict"].to_list() == [grades.strict.correct for _, grades in given]
    assert [rollout.kind for rollout in states[0].counted()] == ["base"] * 3 + ["branch"] * 600


def rename(name: str) -> Question:
    return Question(name, QUESTION.task, QUESTION.prompt, QUESTION.answer)


def test_parts_follow_one_another_and_a_link_in_the_way_is_not_written_through(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "t.parquet.partial").symlink_to(outside)
    parts = [pack(pl.DataFrame({"a": [i, i + 1]})) for i in (10, 0, 5)]
    write_parts(tmp_path / "t.parquet", parts)
    assert read_table(tmp_path / "t.parquet")["a"].to_list() == [10, 11, 0, 1, 5, 6]
    assert outside.read_text() == "mine"
    assert pl.read_parquet(io.BytesIO(parts[0])).height == 2


def test_blocks_are_as_large_as_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(branches, "_BLOCK", 4)
    kept = Branches()
    for rollout, grades in some_rollouts(10):
        kept.add(rollout, grades)
    assert (len(kept._packed), len(kept._loose), len(kept)) == (2, 2, 10)
