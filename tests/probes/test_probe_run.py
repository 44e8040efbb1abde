"""Probes as runs: their files, kills at every write, what makes another run, contexts, what is refused."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing_disk import Death, FailingDisk
from letter_chains import ChainTask, build_writer, run_chains

import hydrometer
from hydrometer.artifacts import read_json, read_table
from hydrometer.errors import RunFolderError, SpecError, UnknownNameError, VerifierError
from hydrometer.probes.config import CONFIGS
from hydrometer.types import Grades, Question, Score, VerifierFailure

SMALL: dict[str, dict[str, Any]] = {
    "prefix": {},
    "continuation": {"depth": ("1", "50%"), "samples": 1},
    "aggregation": {"student": build_writer(0.7, name="wavering"), "teacher": "self+correct_demo", "demos": 4},
    "pattern": {"samples": 2},
}
TABLES = {
    "prefix": {"responses"},
    "continuation": {"responses", "tokens"},
    "aggregation": {"responses", "disagreement"},
    "pattern": {"responses", "tokens"},
}


def run_small(kind: str, out: Path | None = None, **options: Any):
    return run_chains(kind, count=6, out=out, **(SMALL[kind] | options))


def content(folder: Path, kind: str) -> tuple[Any, ...]:
    files = [read_json(folder / name) for name in ("run.json", "summary.json")]
    for file in files:
        file["cost"].pop("wall_s")
    return *files, *(read_table(folder / f"{name}.parquet").to_dicts() for name in sorted(TABLES[kind]))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_leaves_its_files_and_nothing_is_written_without_a_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_small(kind)
    assert list(tmp_path.iterdir()) == []
    kept = run_small(kind, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "report.html",
        "run.json",
        "summary.json",
        "journal.jsonl",
        "lock",
        *(f"{name}.parquet" for name in TABLES[kind]),
    }
    run, summary = read_json(tmp_path / "run" / "run.json"), read_json(tmp_path / "run" / "summary.json")
    assert (run["kind"], run["probe"], run["status"]) == ("probe", kind, "done")
    assert summary == kept.summary
    assert result.tables.keys() == kept.tables.keys() == TABLES[kind]
    for name, table in result.tables.items():
        assert table.equals(read_table(tmp_path / "run" / f"{name}.parquet"))
    assert summary["cost"]["rollouts"] == kept.tables["responses"].height
    free = kept.tables["responses"]["tokens"].sum() - kept.tables["responses"]["prefix_tokens"].sum()
    assert summary["cost"]["generated_tokens"] == free
    assert json.dumps(result.summary, allow_nan=False)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_killed_at_any_write_resumes_to_the_unbroken_one(kind: str, tmp_path: Path) -> None:
    run_small(kind, tmp_path / "unbroken", questions=2)
    unbroken = content(tmp_path / "unbroken", kind)
    died = []
    for fatal in count(1):
        folder, disk = tmp_path / f"run{fatal}", FailingDisk(fatal)
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch)
            try:
                run_small(kind, folder, questions=2)
            except Death:
                died.append(disk.steps[-1])
            else:
                break
        run_small(kind, folder, resume=True, questions=2)
        assert content(folder, kind) == unbroken
        shutil.rmtree(folder)
    assert {"journal line half written", "responses.parquet in place", "run.json in place"} <= set(died)
    assert died.count("journal line synced") >= 3


def test_a_finished_run_is_rebuilt_without_asking_the_models(tmp_path: Path) -> None:
    run_small("continuation", tmp_path / "run")
    expected = content(tmp_path / "run", "continuation")
    for name in ("responses.parquet", "tokens.parquet", "summary.json"):
        (tmp_path / "run" / name).unlink()

    def refuse(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        raise AssertionError("a model was asked again")

    dead = [build_writer(0.5, name=name) for name in ("wavering", "firm")]
    for model in dead:
        model.next_probs = refuse
    run_small("continuation", tmp_path / "run", student=dead[0], teacher={"firm": dead[1]}, resume=True)
    assert content(tmp_path / "run", "continuation") == expected


def test_what_makes_another_run_is_not_resumed(tmp_path: Path) -> None:
    run_small("prefix", tmp_path / "run")
    for changed, words in (
        ({"seed": 3}, "seed: was 0, now 3"),
        ({"greedy": True}, "greedy: was False, now True"),
        ({"questions": 5}, "questions: was 6, now 5"),
        ({"system_prompt": "Be brief."}, "system_prompt: was None"),
        ({"teacher": {"firm": build_writer(0.9, name="other")}}, "teacher: was"),
    ):
        with pytest.raises(RunFolderError, match=words):
            run_small("prefix", tmp_path / "run", resume=True, **changed)
    with pytest.raises(RunFolderError, match="probe: was 'prefix', now 'pattern'"):
        run_small("pattern", tmp_path / "run", resume=True)
    with pytest.raises(RunFolderError, match="is not empty"):
        run_small("prefix", tmp_path / "run")


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    student = build_writer(0.8, name="wavering")
    student.next_probs = lambda prompt, response: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run_small("prefix", tmp_path / "run", student=student)
    assert read_json(tmp_path / "run" / "run.json")["status"] == "interrupted"
    run_small("prefix", tmp_path / "run", resume=True)
    assert read_json(tmp_path / "run" / "run.json")["status"] == "done"


def test_a_teacher_with_a_context_is_shown_it_in_every_probe() -> None:
    seen: set[str] = set()
    student = build_writer(0.5, name="wavering")
    inner = student.next_probs

    def listen(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
        seen.add(bytes(prompt).decode())
        return inner(prompt, response)

    student.next_probs = listen
    for kind in ("prefix", "continuation", "pattern"):
        seen.clear()
        options = SMALL[kind] | {"student": student, "teacher": ["a=self+answer", "d=self+correct_demo"]}
        result = run_chains(kind, count=8, **options)
        assert any("The correct answer is g." in text for text in seen)
        assert any("Here is a correct response:\ng" in text for text in seen)
        demos = result.tables["responses"].filter(start="demo")
        assert demos.height == 8 * 8
        assert demos["writer"].unique().to_list() == ["student"]


class BrokenTask(ChainTask):
    """A verifier that always fails."""

    def verify(self, question: Question, response: str) -> Grades:
        wrong = Score(0.0, False, False)
        return Grades(wrong, wrong, VerifierFailure("time", "longer than 5 s"))


def test_a_verifier_that_always_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VerifierError, match="failed on all 18 responses"):
        run_small("prefix", tmp_path / "run", task=BrokenTask(6))
    assert read_table(tmp_path / "run" / "responses.parquet").height == 18


def test_what_cannot_be_is_refused() -> None:
    named: dict[str, Any] = {"student": build_writer(0.8, name="w"), "teacher": "self", "task": ChainTask(6)}
    for kind, changed, error, words in (
        ("prefx", {}, UnknownNameError, "Unknown probe 'prefx'. Did you mean prefix"),
        ("prefix", {"questions": 0}, SpecError, "Option 'questions' is 0"),
        ("prefix", {"depth": "3"}, SpecError, "Unknown option 'depth'"),
        ("prefix", {"teacher": "bundled:exprt"}, UnknownNameError, "'exprt'. Did you mean expert"),
        ("prefix", {"teacher": "student=self+answer"}, SpecError, "cannot be called 'student'"),
        ("prefix", {"teacher": {"student": build_writer(0.5, name="x")}}, SpecError, "cannot be called 'student'"),
        ("prefix", {"teacher": ()}, SpecError, "at least one teacher"),
        ("prefix", {"split": "test"}, SpecError, "no questions in the split 'test'"),
        ("prefix", {"plain_prompt": True}, SpecError, "a model object writes prompts its own way"),
        ("prefix", {"resume": True}, SpecError, "name its folder with --out"),
        ("continuation", {"depth": ()}, SpecError, "at least one depth"),
        ("pattern", {"k": 0}, SpecError, "Option 'k' is 0"),
    ):
        with pytest.raises(error, match=words):
            hydrometer.probe(kind, **(named | changed))
