"""What reaches a terminal or a pipe: no escapes, no markup, no traceback, whatever names and places are."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from tiny_runs import QUESTIONS, TINY, Command, tiny, write_rows

import hydrometer
from hydrometer.artifacts import read_table
from hydrometer.cli.printable import printable

TRAP = "\x1b]0;title\x07\x1b[31m[red]x[/red][/]\r\u202e\u200f\u2028\u0085\x9b"
"""Escapes, markup of the printing library (with an end that has no beginning), marks and line ends of Unicode."""
UNSAFE = set(TRAP) - set("]0;title[31mredx/")


def test_every_unsafe_character_is_spelled_out() -> None:
    assert not set(printable(TRAP)) & UNSAFE
    assert printable("name\u200d\U0001f469 ä\t\n") == "name\u200d\U0001f469 ä\t\n"
    shown = set(printable("".join(map(chr, range(0x110000))))) - {"\t", "\n"}
    assert not {character for character in shown if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")}
    assert not {character for character in shown if unicodedata.bidirectional(character) in OVERRIDES}


OVERRIDES = ("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
COMMANDS = [
    ["diagnose", *TINY, "--teacher", TRAP],
    ["diagnose", *TINY, "--teacher", f"self+{TRAP}"],
    ["diagnose", *TINY, "--teacher", f"{TRAP}=good", "--teacher", f"{TRAP}=good"],
    ["diagnose", *TINY, "--objective", TRAP],
    ["diagnose", *TINY, "--seed", TRAP],
    ["diagnose", *TINY, "--config", TRAP],
    ["diagnose", *TINY, "--verifier", TRAP],
    ["diagnose", *TINY, "--template", f"{TRAP}=x"],
    ["diagnose", *TINY, f"--{TRAP}", "1"],
    ["diagnose", *TINY, "--device", TRAP],
    ["check", TRAP],
    ["check", "student", "--objective", TRAP],
    ["report", TRAP],
    [TRAP],
]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=[" ".join(c for c in c if c not in TINY and c != TRAP) for c in COMMANDS]
)
def test_no_error_message_lets_an_escape_through(command: list[str], workplace: Path, run: Command) -> None:
    said = run(command)
    assert said.code == 2
    assert not set(said.out + said.err) & UNSAFE


def test_a_run_of_traps_prints_and_stores_them_harmlessly(workplace: Path, run: Command) -> None:
    """Ids, prompts, answers and folders full of traps, fields of a megabyte among them."""
    rows = [row | {"id": f"../../{i}{TRAP}", "solution": TRAP} for i, row in enumerate(QUESTIONS)]
    rows[1] |= {"id": "x" * (1 << 14), "answer": "y" * (1 << 20)}
    rows[2] |= {"id": "a/b\x00c"}
    write_rows(workplace / "questions.jsonl", rows)
    before = set(workplace.rglob("*"))
    out = f"ou t{TRAP.replace('/', '')}"
    said = run(["diagnose", *TINY, "--no-check", "--teacher", "self+solution", "--out", out])
    assert said.code == 0
    assert not set(said.out + said.err) & UNSAFE
    assert len(said.out) < 10_000
    stored = read_table(workplace / out / "questions.parquet")["question_id"].to_list()
    assert sorted(stored) == sorted(row["id"] for row in rows)
    new = {path for path in set(workplace.rglob("*")) - before if workplace / out not in path.parents}
    assert new == {workplace / out}
    assert (workplace / out / "report.html").stat().st_size < 2 << 20
    again = run(["report", out])
    assert (again.code, set(again.out) & UNSAFE) == (0, set())


SURROUNDINGS = {
    "narrow": {"COLUMNS": "40"},
    "dumb": {"TERM": "dumb"},
    "no colour": {"NO_COLOR": "1", "FORCE_COLOR": ""},
    "ASCII": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


PACKAGE = str(Path(hydrometer.__file__).parents[1])
HERE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": PACKAGE}


def command_line(arguments: list[str], folder: Path, **options: object) -> "subprocess.Popen[bytes]":
    surroundings = os.environ | HERE | options.pop("env", {})  # type: ignore[operator]
    command = [sys.executable, "-m", "hydrometer.cli.main", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, cwd=folder, env=surroundings, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("changes", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_any_surroundings_will_do(changes: dict[str, str], tmp_path: Path) -> None:
    process = command_line(["models"], tmp_path, env=changes)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert b"\x1b" not in out
    assert b"expert" in out.replace(b"\n", b"")


def test_a_reader_that_leaves_early_is_no_bug(tmp_path: Path) -> None:
    process = command_line(["models", "--json"], tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert b"Traceback" not in err
    assert process.returncode in (0, 1, 141)


def test_a_deleted_folder_to_stand_in_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    process = command_line(["models"], folder, preexec_fn=folder.rmdir)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith(b"hydrometer: The current directory cannot be used")


def test_a_folder_with_an_odd_name_is_a_folder(workplace: Path, run: Command) -> None:
    name = "Prüfung 実験 \U0001f9ea -- =x"
    said = run(["diagnose", *tiny(paths="1"), "--no-check", "--out", name])
    assert said.code == 0
    assert "実験" in said.out.replace("\n", "")
    assert (workplace / name / "report.html").is_file()
