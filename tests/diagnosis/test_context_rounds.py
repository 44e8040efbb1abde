"""Texts that models write for contexts: who wrote them, what they cost, and that a resumed run shows the same ones."""

from pathlib import Path
from typing import Any

import pytest
from scripted_worlds import EOS, TINY, TOKENS, LetterTask, build_student, leave_plain_reports, run_world, student_probs

import hydrometer
import hydrometer.runs.drawing as drawing
from hydrometer.artifacts import TABLES, read_journal, read_json, read_table
from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.sampling import ScriptedModel

SUMMED = ["self+correct_demo", "self+summary", "self+correct_wrong_summary", "self+empty:summary"]
SETTINGS: dict[str, Any] = {**TINY, "objective": ["reverse_kl"], "questions": 4, "demos": 12, "max_summary_tokens": 5}
BUNDLED: dict[str, Any] = {
    "questions": 2,
    "rollouts": 8,
    "visits": 2,
    "min_visits": 2,
    "demos": 4,
    "objective": ["reverse_kl"],
}


@pytest.fixture(autouse=True)
def small_rounds_and_plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "round_size", lambda model, limit: 3)
    leave_plain_reports(monkeypatch)


def tables(folder: Path) -> dict[str, Any]:
    return {name: read_table(folder / f"{name}.parquet") for name in TABLES}


def test_a_summary_is_written_once_per_demonstration_and_is_greedy(tmp_path: Path) -> None:
    run = run_world(tmp_path / "run", **SETTINGS, teacher=SUMMED)
    records, _ = read_journal(tmp_path / "run" / "journal.jsonl")
    rounds = [record for record in records if record["round"] == "summary"]
    contexts = run.table("contexts").filter(run.table("contexts")["teacher"] != "self+correct_demo")
    assert set(contexts["summariser"]) == {"letters-student"}
    assert set(contexts["demos_by"]) == {"student"}
    shown = {(row["question_id"], i) for row in contexts.iter_rows(named=True) for i in row["demo_rollout_ids"]}
    written = sum(len(record["rows"]) for record in rounds)
    skipped = contexts.filter("skipped")
    assert len(rounds) > 1
    assert len(shown) <= written <= len(shown) + 2 * skipped.height
    assert all(record["n_rollouts"] == 0 and record["generated_tokens"] > 0 for record in rounds)
    [first, *_] = rounds
    question_id, demo_id, token_ids = first["key"][1], first["key"][2], first["rows"][0][0]
    prompt = tuple(f"user: question {int(question_id[1:])}\n\nHere is".encode())
    expected: list[int] = []
    while not expected or (expected[-1] != EOS and len(expected) < 5):
        expected.append(int(student_probs(prompt, tuple(expected)).argmax()))
    assert token_ids == expected
    text = build_student().decode(expected)
    prompts = contexts.filter(question_id=question_id, teacher="self+summary", skipped=False)["prompt"].to_list()
    assert [demo_id] == contexts.filter(question_id=question_id, teacher="self+summary")["demo_rollout_ids"][
        0
    ].to_list()
    assert f"correct response:\n{text}\n" in prompts[0]


def test_summaries_cost_tokens_and_are_no_rollouts(tmp_path: Path) -> None:
    with_them = run_world(tmp_path / "with", **SETTINGS, teacher=SUMMED).summary["cost"]
    records, _ = read_journal(tmp_path / "with" / "journal.jsonl")
    paid = sum(record.get("generated_tokens", 0) for record in records)
    assert with_them["generated_tokens"] == paid
    rollouts = read_table(tmp_path / "with" / "rollouts.parquet")
    assert rollouts.height == with_them["rollouts"]
    assert set(rollouts["model"]) == {"student"}


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_run_cut_off_among_its_summaries_goes_on_to_the_same_tables(tmp_path: Path, kept: int) -> None:
    run_world(tmp_path / "whole", **SETTINGS, teacher=SUMMED)
    journal = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(journal) if b'"round":"summary"' in line)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "journal.jsonl").write_bytes(b"".join(journal[: first + kept]) + journal[first + kept][:40])
    run_world(tmp_path / "cut", **SETTINGS, teacher=SUMMED, resume=True)
    whole, cut = tables(tmp_path / "whole"), tables(tmp_path / "cut")
    assert all(cut[name].equals(whole[name]) for name in TABLES)


def test_a_finished_run_shows_its_summaries_without_writing_them_again(tmp_path: Path) -> None:
    before = run_world(tmp_path / "run", **SETTINGS, teacher=SUMMED).table("contexts")

    def refuse(prompt: tuple[int, ...], response: tuple[int, ...]) -> Any:
        raise AssertionError("the model was asked again")

    silent = ScriptedModel(TOKENS, refuse, name="letters-student")
    again = run_world(tmp_path / "run", **SETTINGS, teacher=SUMMED, student=silent, resume=True)
    assert again.table("contexts").equals(before)


def test_peers_are_sampled_apart_and_never_counted(tmp_path: Path) -> None:
    teachers = ["p=self+peer_demo:bundled:expert", "q=bundled:expert+peer_demo", "d=self+correct_demo"]
    run = hydrometer.diagnose(out=tmp_path / "run", teacher=teachers, **BUNDLED)
    rollouts = {(r["question_id"], r["rollout_id"]): r for r in run.table("rollouts").iter_rows(named=True)}
    peers = [r for r in rollouts.values() if r["model"] == "bundled:expert"]
    assert len(peers) == 2 * 4, "one set for both teachers"
    assert {r["kind"] for r in peers} == {"demo"}
    for row in run.table("contexts").iter_rows(named=True):
        by = "student" if row["teacher"] == "d" else "bundled:expert"
        assert row["demos_by"] == by
        assert row["summariser"] is None
        for rollout_id in row["demo_rollout_ids"]:
            shown = rollouts[row["question_id"], rollout_id]
            assert (shown["kind"], shown["model"], shown["correct"]) == ("demo", by, True)
            assert f"\n{shown['text'].strip()}\n\nNow give your own" in row["prompt"]
    questions = run.table("questions")
    assert set(questions["rollouts"]) == {8}
    assert set(read_json(tmp_path / "run" / "run.json")["models"]) == {"student", "p", "q", "d", "peer:bundled:expert"}


def test_a_peer_rollouts_do_not_move_the_students(tmp_path: Path) -> None:
    """The student's rollouts come first, so that a teacher more leaves them as they are."""
    both = ["d=self+correct_demo", "p=self+peer_demo:bundled:expert"]
    with_peer = hydrometer.diagnose(out=tmp_path / "a", teacher=both, allocation="on_policy", **BUNDLED)
    without = hydrometer.diagnose(out=tmp_path / "b", teacher=both[:1], allocation="on_policy", **BUNDLED)
    mine = with_peer.table("rollouts").filter(model="student")
    assert mine.equals(without.table("rollouts"))


def test_one_summariser_may_write_for_all(tmp_path: Path) -> None:
    teachers = ["a=self+summary", "b=bundled:early+summary"]
    run = hydrometer.diagnose(out=tmp_path / "run", teacher=teachers, summariser="bundled:expert", **BUNDLED)
    contexts = run.table("contexts")
    assert set(contexts["summariser"]) == {"bundled:expert"}
    shown = {name: contexts.filter(teacher=name)["prompt"].to_list() for name in ("a", "b")}
    assert shown["a"] == shown["b"]
    assert any(shown["a"])
    models = read_json(tmp_path / "run" / "run.json")["models"]
    assert models["summariser:bundled:expert"]["spec"] == "bundled:expert"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"teacher": ["self+peer_demo"]}, SpecError, r"'self\+peer_demo': a peer is another model.*MODEL"),
        ({"teacher": ["self+peer_demo:self"]}, SpecError, "a peer is another model"),
        ({"teacher": ["self+peer_demo:bundled:exprt"]}, UnknownNameError, "'exprt'. Did you mean expert"),
        ({"teacher": ["self+summary"], "summariser": "bundled:exprt"}, UnknownNameError, "Did you mean expert"),
        ({"teacher": ["self+summary"], "demos": 0}, SpecError, r"'self\+summary' is shown demonstrations.*--demos 0"),
        ({"teacher": ["self+peer_demo:bundled:expert"], "demos": 0}, SpecError, "--demos 0"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_sampled(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run_world(tmp_path / "run", **{**TINY, **options}, task=LetterTask())
    assert not (tmp_path / "run").exists()
