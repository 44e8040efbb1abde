"""A run that was cut off anywhere and resumed is the run that was not."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from failing_disk import Death, FailingDisk
from scripted_worlds import TINY, TOKENS, LetterTask, build_planted, leave_plain_reports, run_world, student_probs

import hydrometer.diagnosis.branching as branching
import hydrometer.diagnosis.corridor as corridor
import hydrometer.runs.drawing as drawing
from hydrometer.artifacts import TABLES, Journal, read_json, read_table
from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.artifacts.journal import read_journal
from hydrometer.errors import RunFolderError
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Question

SETTINGS: dict[str, Any] = {
    **TINY,
    "questions": 2,
    "objective": ["reverse_kl"],
    "pilot": 4,
    "pilot_low": 0.0,
    "pilot_high": 1.0,
}


@pytest.fixture(autouse=True)
def small_rounds_and_plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of 16 rollouts, so that even a tiny run has many; a report that costs nothing but is written like one."""
    for module in (branching, drawing):
        monkeypatch.setattr(module, "round_size", lambda student, limit: 16)
    leave_plain_reports(monkeypatch)


def content(folder: Path) -> dict[str, Any]:
    """All that has to be equal."""
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    for file in (run, summary):
        file["cost"].pop("wall_s")
    tables = {name: read_table(folder / f"{name}.parquet") for name in TABLES}
    return {"run": run, "summary": summary, "tables": tables, "report": (folder / "report.html").exists()}


def assert_same(found: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    for name, table in expected["tables"].items():
        assert found["tables"][name].equals(table), f"{name} differs after dying at {where}"
    assert found["summary"] == expected["summary"], where
    assert found["run"] == expected["run"], where
    assert found["report"], where


@pytest.fixture
def unbroken(tmp_path: Path) -> dict[str, Any]:
    run_world(tmp_path / "unbroken", **SETTINGS)
    return content(tmp_path / "unbroken")


def die_and_resume(folder: Path, fatal: int) -> str | None:
    """Run until step `fatal` of writing, then resume; the name of the step, or None if the run never got that far."""
    disk = FailingDisk(fatal)
    with pytest.MonkeyPatch.context() as patch:
        disk.install(patch)
        try:
            run_world(folder, **SETTINGS)
        except Death:
            pass
        else:
            return None
    run_world(folder, **SETTINGS, resume=True)
    return disk.steps[-1]


def test_a_run_killed_at_any_write_resumes_to_the_unbroken_run(unbroken: dict[str, Any], tmp_path: Path) -> None:
    died = []
    while where := die_and_resume(folder := tmp_path / str(len(died)), len(died) + 1):
        died.append(where)
        assert_same(content(folder), unbroken, f"write {len(died)}, {where}")
        assert not list(folder.glob("*.partial")), where
        shutil.rmtree(folder)
    places = {"beside", "in place"}
    files = [*(f"{name}.parquet" for name in TABLES), "summary.json", "run.json", "report.html"]
    assert {f"{file} {place}" for file in files for place in places} <= set(died)
    assert {"journal line half written", "journal line synced"} <= set(died)
    assert died.count("journal line synced") >= 7  # start, pilot, samples, scores, branches


def test_a_run_killed_again_and_again_gets_there(unbroken: dict[str, Any], tmp_path: Path) -> None:
    """Every sitting survives five writes more than the one before wrote."""
    folder, sittings = tmp_path / "run", 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            FailingDisk(5 + 2 * sittings).install(patch)
            try:
                run_world(folder, **SETTINGS, resume=True)
            except Death:
                sittings += 1
            else:
                break
    assert sittings > 5
    assert_same(content(folder), unbroken, f"{sittings} sittings")


def torn_journals(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The journal cut off after the first, a middle and before the last byte of its first and of a later line."""
    data = (folder / "journal.jsonl").read_bytes()
    start = 0
    for number, line in enumerate(data.splitlines(keepends=True)):
        if number in (0, 7):
            for kept in (1, len(line) // 2, len(line) - 1):
                yield number, data[: start + kept]
        start += len(line)


def test_a_torn_last_line_is_redone_wherever_it_is_torn(unbroken: dict[str, Any], tmp_path: Path) -> None:
    for number, data in torn_journals(tmp_path / "unbroken"):
        folder = tmp_path / "torn"
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(data)
        run_world(folder, **SETTINGS, resume=True)
        assert_same(content(folder), unbroken, f"line {number} torn at byte {len(data)}")
        shutil.rmtree(folder)


def test_a_finished_run_is_rebuilt_from_its_journal_without_sampling(unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "unbroken"
    for file in folder.glob("*.parquet"):
        file.write_bytes(b"PAR1 not any more")
    (folder / "summary.json").unlink()
    (folder / "report.html").write_text("")

    def refuse(prompt: tuple[int, ...], response: tuple[int, ...]) -> Any:
        raise AssertionError("the model was asked again")

    with_dead_model = ScriptedModel(TOKENS, refuse, name="letters-student")
    run_world(folder, **SETTINGS, student=with_dead_model, resume=True)
    assert_same(content(folder), unbroken, "the end")
    assert (folder / "report.html").read_text() == "report"


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(unbroken: dict[str, Any], tmp_path: Path) -> None:
    run_world(tmp_path / "again", **SETTINGS)
    assert_same(content(tmp_path / "again"), unbroken, "nowhere")
    run_world(tmp_path / "other", **SETTINGS, seed=1)
    other = content(tmp_path / "other")
    for name in ("rollouts", "candidates", "nodes"):
        assert not other["tables"][name].equals(unbroken["tables"][name])


def test_what_runs_the_models_may_change_and_everything_else_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_world(folder, **SETTINGS)
    run_world(folder, **SETTINGS, batch_size=3, threads=1, resume=True)
    for changed, named in (
        ({"seed": 5}, r"seed: was 0, now 5"),
        ({"visits": 9, "top_p": 0.5}, r"top_p: was 1.0, now 0.5\n  visits: was 4, now 9"),
        ({"objective": ["forward_kl"]}, r"objective: was \['reverse_kl'\], now \['forward_kl'\]"),
        ({"teacher": {"other": build_planted(2.0)}}, r"teacher: was \['planted'\], now \['other'\]"),
    ):
        with pytest.raises(RunFolderError, match=named):
            run_world(folder, **{**SETTINGS, **changed}, resume=True)


def rewrite_journal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Every record of the journal, changed."""
    path = folder / "journal.jsonl"
    records, _ = read_journal(path)
    path.unlink()
    with closing(Journal(path)) as journal:
        for record in records:
            change(record)
            journal.append(record)


def forget_options(record: dict[str, Any]) -> None:
    """As a version without these options began the run."""
    if identity := record.get("identity"):
        del (
            identity["config"]["continuation"],
            identity["config"]["prompt_template"],
            identity["prompts"]["prompt_template"],
        )


def test_an_option_that_the_older_version_did_not_have_counts_as_its_default(
    unbroken: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "unbroken"
    rewrite_journal(folder, forget_options)
    run_world(folder, **SETTINGS, resume=True)
    assert_same(content(folder), unbroken, "the end, by another version")
    with pytest.raises(RunFolderError, match=r"with these options:\n  continuation: was 'student', now 'both'$"):
        run_world(folder, **SETTINGS, continuation="both", resume=True)
    with pytest.raises(RunFolderError, match=r"these options:\n  prompt_template: was None, now .Say: \$question.\n"):
        run_world(folder, **SETTINGS, prompt_template="Say: $question", resume=True)


def test_scores_that_another_version_recorded_are_told(unbroken: dict[str, Any], tmp_path: Path) -> None:
    def forget_entropy(record: dict[str, Any]) -> None:
        if record.get("round") == "score":
            kept = [decode_arrays(arrays) for arrays in record["arrays"]]
            record["arrays"] = [
                encode_arrays({name: array for name, array in arrays.items() if name != "teacher_entropy"})
                for arrays in kept
            ]

    folder = tmp_path / "unbroken"
    rewrite_journal(folder, forget_entropy)
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=r"recorded other scores than this one \(teacher_entropy\): go on with"):
        run_world(folder, **SETTINGS, resume=True)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_a_model_whose_files_changed_is_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_world(folder, **SETTINGS)
    changed = ScriptedModel(TOKENS, student_probs, name="letters-student")
    changed.fingerprint = "sha256:other"
    with pytest.raises(RunFolderError, match=r"model 'student' \(letters-student\): its files have changed"):
        run_world(folder, **SETTINGS, student=changed, batch_size=2, resume=True)


def test_a_rule_file_whose_text_changed_is_another_teacher(tmp_path: Path) -> None:
    rule = tmp_path / "rule.txt"
    rule.write_text("rule 3")
    settings = {**SETTINGS, "teacher": [f"self+rule:@{rule}"]}
    run_world(tmp_path / "run", **settings)
    rule.write_text("rule 4")
    with pytest.raises(RunFolderError, match=r"(?s)teacher 'self\+rule:@.*was .*rule 3.*now .*rule 4"):
        run_world(tmp_path / "run", **settings, resume=True)


class RewordedTask(LetterTask):
    """The same ids with another text in one question."""

    def questions(self, split: str) -> list[Question]:
        first, *others = super().questions(split)
        return [replace(first, answer="reworded"), *others]


def test_a_task_whose_questions_changed_is_another_task(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_world(folder, **SETTINGS)
    with pytest.raises(RunFolderError, match="task 'letters': its questions have changed"):
        run_world(folder, **SETTINGS, task=RewordedTask(), resume=True)


def test_questions_beyond_those_asked_for_may_change(tmp_path: Path) -> None:
    settings = {**SETTINGS, "pilot": 0}
    run_world(tmp_path / "run", **settings, task=LetterTask(12))
    run_world(tmp_path / "run", **settings, task=LetterTask(15), resume=True)


def test_a_folder_of_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("hydrometer.diagnosis.provenance.SCHEMA_VERSION", 99)
        run_world(folder, **SETTINGS)
    with pytest.raises(RunFolderError, match="diagnosis of schema 99, now diagnosis of schema 1"):
        run_world(folder, **SETTINGS, resume=True)


def test_damage_before_the_last_line_is_never_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_world(folder, **SETTINGS)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"n_rollouts":', b'"n_rollouts": ', 1)
    (folder / "journal.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(RunFolderError, match="line 3 is damaged"):
        run_world(folder, **SETTINGS, resume=True)


def test_a_lost_journal_is_not_taken_for_a_new_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_world(folder, **SETTINGS)
    before = pl.read_parquet(folder / "candidates.parquet")
    (folder / "journal.jsonl").unlink()
    with pytest.raises(RunFolderError, match=r"lost its journal\.jsonl"):
        run_world(folder, **SETTINGS, resume=True)
    assert pl.read_parquet(folder / "candidates.parquet").equals(before)


def test_an_empty_or_missing_folder_can_be_resumed(unbroken: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        run_world(tmp_path / name, **SETTINGS, resume=True)
        assert_same(content(tmp_path / name), unbroken, name)


def test_run_json_tells_how_the_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(corridor, "score_paths", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_world(folder, **SETTINGS)
    assert read_json(folder / "run.json")["status"] == "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(corridor, "score_paths", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_world(folder, **SETTINGS, resume=True)
    assert read_json(folder / "run.json")["status"] == "failed"
    run_world(folder, **SETTINGS, resume=True)
    done = read_json(folder / "run.json")
    assert done["status"] == "done"
    assert json.dumps(done["config"])
    assert done["questions"] == {
        "analysed": 2,
        "piloted": 4,
        "left_out_by_pilot": 0,
        "left_out_ids": [],
        "fit_but_not_needed": 2,
        "fit_but_not_needed_ids": ["q02", "q03"],
        "uninformative": 0,
        "uninformative_ids": [],
        "uninformative_are": "analysed and pooled like the others",
    }
