"""Real processes killed at random moments (slow): whatever they left behind resumes to the unbroken run."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_worlds import TINY, run_world

import hydrometer.diagnosis.branching as branching
import hydrometer.runs.drawing as drawing
from hydrometer.artifacts import TABLES, read_json, read_table

SETTINGS = TINY | {"questions": 5, "rollouts": 24, "visits": 12}
SCRIPT = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
import hydrometer.diagnosis.branching as branching
import hydrometer.runs.drawing as drawing
import hydrometer.diagnosis.run
from scripted_worlds import build_student, run_world
branching.round_size = drawing.round_size = lambda student, limit: 8
student = build_student()
next_probs = student.next_probs

def slow(prompt, response):
    time.sleep(1e-3)
    return next_probs(prompt, response)

student.next_probs = slow
print("ready", flush=True)
run_world(OUT, **{SETTINGS!r}, student=student, resume=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_process_killed_at_random_moments_resumes_to_the_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (branching, drawing):
        monkeypatch.setattr(module, "round_size", lambda student, limit: 8)
    run_world(tmp_path / "unbroken", **SETTINGS)
    rng = random.Random(7)
    killed = []
    for attempt in range(4):
        folder = tmp_path / f"run{attempt}"
        script = SCRIPT.replace("OUT", repr(str(folder)))
        while True:
            command = [sys.executable, "-c", script]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            assert process.stdout is not None
            process.stdout.readline()
            try:
                _, said = process.communicate(timeout=rng.uniform(0.05, 1.5))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                journal = folder / "journal.jsonl"
                killed.append(journal.stat().st_size if journal.exists() else 0)
                time.sleep(0.01)
            else:
                assert process.returncode == 0, said.decode()
                break
        for name in TABLES:
            mine, expected = (read_table(f / f"{name}.parquet") for f in (folder, tmp_path / "unbroken"))
            assert mine.equals(expected), name
        summaries = [read_json(f / "summary.json") for f in (folder, tmp_path / "unbroken")]
        for summary in summaries:
            summary["cost"].pop("wall_s")
        assert summaries[0] == summaries[1]
    assert len(set(killed)) > 8  # deaths at many different points of the journal
