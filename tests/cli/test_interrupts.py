"""Ctrl-C, SIGTERM and too little memory in the middle of a run, in a process of its own: told, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import TINY, Command, tiny

from hydrometer.artifacts import TABLES, read_json, read_table

SMALL_ROUNDS = """
import sys
import hydrometer.diagnosis.branching as branching
import hydrometer.runs.drawing as drawing
branching.round_size = drawing.round_size = lambda student, limit: 8
from hydrometer.cli.main import main
main(sys.argv[1:])
"""
LITTLE_MEMORY = """
import resource, sys
import hydrometer.diagnosis.run, transformers, torch
from hydrometer.cli.main import main
from hydrometer.sampling import transformers_sampler as sampler
draw = sampler._Batch.run

def limited(batch):
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (256 << 20), now + (256 << 20)))
    torch.empty(1 << 30)
    return draw(batch)

sampler._Batch.run = limited
main(sys.argv[1:])
"""


def start(script: str, arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder, env=environment)


def wait_for_rounds(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the journal holds `count` rounds."""
    journal = folder / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"ended early: {process.communicate()[1]}")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_130_and_is_resumed(sent: signal.Signals, workplace: Path, run: Command) -> None:
    process = start(SMALL_ROUNDS, ["diagnose", *TINY, "--out", "out"], workplace)
    wait_for_rounds(workplace / "out", 5, process)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert "--resume" in err
    assert out == ""
    assert read_json(workplace / "out" / "run.json")["status"] == "interrupted"
    kept = (workplace / "out" / "journal.jsonl").read_bytes()
    if sent == signal.SIGINT:
        return

    with pytest.MonkeyPatch.context() as patch:
        for module in ("diagnosis.branching", "runs.drawing"):
            patch.setattr(f"hydrometer.{module}.round_size", lambda student, limit: 8)
        assert run(["diagnose", *TINY, "--out", "out", "--resume"]).code == 0
        assert run(["diagnose", *TINY, "--out", "straight"]).code == 0
    assert (workplace / "out" / "journal.jsonl").read_bytes().startswith(kept)
    for name in TABLES:
        resumed, straight = (read_table(workplace / folder / f"{name}.parquet") for folder in ("out", "straight"))
        assert resumed.equals(straight), name


def test_out_of_memory_exits_2_and_names_the_option(workplace: Path, run: Command) -> None:
    checked = start(LITTLE_MEMORY, ["diagnose", *TINY, "--out", "checked"], workplace)
    _, err = checked.communicate(timeout=120)
    assert (checked.returncode, "--batch-size" in err) == (2, True), "the check before the run needs memory too"
    assert not (workplace / "checked").exists()
    process = start(LITTLE_MEMORY, ["diagnose", *TINY, "--out", "out", "--no-check"], workplace)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    message = err[err.index("hydrometer: ") :]
    assert "Out of memory" in message
    assert "--batch-size" in message
    assert "Traceback" not in err
    assert read_json(workplace / "out" / "run.json")["status"] == "failed"
    assert run(["diagnose", *TINY, "--out", "out", "--resume"]).code == 0


def test_two_processes_do_not_share_a_folder(workplace: Path, run: Command) -> None:
    process = start(SMALL_ROUNDS, ["diagnose", *tiny(rollouts="4000"), "--out", "out"], workplace)
    try:
        wait_for_rounds(workplace / "out", 2, process)
        said = run(["diagnose", *tiny(rollouts="4000"), "--out", "out", "--resume"])
        assert said.code == 2
        assert "out is in use by another hydrometer process" in said.err
    finally:
        process.kill()
        process.communicate()
