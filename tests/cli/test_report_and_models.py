"""`hydrometer report` works from files alone and refuses damaged ones; `hydrometer models` prints the family's card."""

import json
from pathlib import Path

import pytest
from tiny_runs import TINY, Command

from hydrometer.artifacts import TABLES
from hydrometer.models import family

ESTIMATE = {"value": 0.4567, "interval": [0.4, 0.5], "questions": 20}
MEMBER = {
    "accuracy": ESTIMATE,
    "strict_accuracy": ESTIMATE,
    "second_prompt_accuracy": ESTIMATE,
    "top4_overlap_with_student": ESTIMATE,
    "parameters": 123_456,
    "gains": {"answer": {"value": 0.125, "interval": [0.05, 0.2], "questions": 20}},
    "training": {"run": "expert", "step": 4000, "tokens": 8_192_000, "cpu_s": 900},
}
REWARDED = MEMBER["training"] | {
    "run": "reward",
    "rollouts": 1280,
    "plan": {"start": "student", "objective": "dr_grpo"},
}
CARD = {
    "task": "bundled:chain",
    "seed": 5,
    "made_by": "python scripts/make_family.py",
    "training_cpu_s": 1500,
    "measured_on": {
        "split": "diagnose",
        "questions": 20,
        "samples_bare": 16,
        "samples_in_context": 8,
        "temperature": 1.0,
        "intervals": "95 %",
    },
    "members": {"expert": MEMBER, "expert-rl": MEMBER | {"training": REWARDED}, "student": MEMBER | {"gains": {}}},
    "not_bundled": {"long-student": MEMBER},
}


@pytest.fixture
def finished(workplace: Path, run: Command) -> Path:
    assert run(["diagnose", *TINY, "--out", "out"]).code == 0
    return workplace / "out"


def test_a_report_is_rebuilt_from_the_files_alone(finished: Path, run: Command) -> None:
    before = (finished / "report.html").read_bytes()
    (finished / "report.html").unlink()
    (finished / "journal.jsonl").unlink()
    moved = finished.rename(finished.parent / "out2").rename(finished)
    said = run(["report", str(moved)])
    assert said.code == 0
    assert said.out.strip().endswith("report.html")
    assert (finished / "report.html").read_bytes() == before


def test_every_damaged_file_is_named(finished: Path, run: Command) -> None:
    shown = [
        f"{table}.parquet" for table in TABLES if table not in ("advice", "context_rollouts", "log_ratios", "scores")
    ]
    for name in [*shown, "summary.json", "run.json"]:
        whole = (finished / name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", None):
            (finished / name).unlink()
            if damaged is not None:
                (finished / name).write_bytes(damaged)
            said = run(["report", "out"])
            assert said.code == 2, (name, damaged)
            assert name in said.err
        (finished / name).write_bytes(whole)
    assert run(["report", "out"]).code == 0


def test_a_run_of_another_schema_is_refused(finished: Path, run: Command) -> None:
    run_json = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(run_json | {"schema_version": 99}))
    said = run(["report", "out"])
    assert said.code == 2
    assert "schema_version 99, this version reads 1" in said.err


def test_a_damaged_journal_is_named_and_the_tables_stay(finished: Path, run: Command) -> None:
    journal = finished / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"deadbeef {}\n", *lines[2:]]))
    tables = (finished / "candidates.parquet").read_bytes()
    said = run(["diagnose", *TINY, "--out", "out", "--resume"])
    assert said.code == 2
    assert "line 2 is damaged" in said.err
    assert (finished / "candidates.parquet").read_bytes() == tables


def test_the_family_is_printed_with_intervals_gains_and_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command
) -> None:
    (tmp_path / "family.json").write_text(json.dumps(CARD))
    monkeypatch.setattr(family, "_FOLDER", tmp_path)
    said = run(["models"])
    assert said.code == 0
    for text in ("46 [40, 50]", "0.12M", "+12 ±8", "-\n", "seed 5"):
        assert text in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    made = {cells[0]: cells[1:] for line in said.out.splitlines() if len(cells := line.split()) >= 5}
    assert made["bundled:expert"] == ["expert", "4,000", "8,192,000", "900"]
    assert made["bundled:expert-rl"][:4] == ["reward", "4,000", "8,192,000", "900"]
    assert "1,280 rollouts from student, dr_grpo" in " ".join(said.out.split())
    assert made["long-student"][-2:] == ["not", "bundled"]
    assert json.loads(run(["models", "--json"]).out) == CARD


def test_without_its_files_the_family_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command
) -> None:
    monkeypatch.setattr(family, "_FOLDER", tmp_path)
    said = run(["models"])
    assert said.code == 2
    assert "family.json is missing" in said.err
