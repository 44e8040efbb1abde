"""`hydrometer probe KIND` on tiny real checkpoints: what is printed where, files, exit codes, interrupts."""

import json
import math
import shlex
import signal
from pathlib import Path

import pytest
from command_line import assert_refused
from test_interrupts import start, wait_for_rounds
from tiny_runs import QUESTIONS, Command, write_rows

import hydrometer
from hydrometer.artifacts import read_json, read_table
from hydrometer.probes.config import CONFIGS

OPTIONS = shlex.split("--student student --teacher good=good --task jsonl:asked.jsonl --max-response-tokens 6")
SMALL_ROUNDS = """
import sys
import hydrometer.runs.drawing as drawing
drawing.round_size = lambda model, limit: 8
from hydrometer.cli.main import main
main(sys.argv[1:])
"""
EXTRA = {
    "prefix": "",
    "continuation": "--depth 0 --depth 1 --depth 50% --samples 2",
    "aggregation": "--teacher self+answer --teacher self+solution",
    "pattern": "--samples 4 --k 4",
}
SHOWN = {
    "prefix": ("right to wrong / wrong to right", "McNemar", "answer could be read"),
    "continuation": ("advantage at depth 50%, points", "teacher NLL of student tokens", "prefixes of low density"),
    "aggregation": ("-log Z, nats per token", "contexts a question", "can be learnt"),
    "pattern": ("student overlap mass", "pass@4 minus the student's", "solved by it alone"),
}


@pytest.fixture
def workplace(workplace: Path) -> Path:
    """The current folder also has `asked.jsonl`, whose 24 questions are all of the split diagnose."""
    rows = [row | {"split": "diagnose", "id": f"{row['id']}-{n}"} for n in range(4) for row in QUESTIONS]
    write_rows(workplace / "asked.jsonl", rows)
    return workplace


def line(kind: str) -> list[str]:
    return ["probe", kind, *OPTIONS, *shlex.split(EXTRA[kind])]


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_was_found_is_printed_and_nothing_is_written(kind: str, workplace: Path, run: Command) -> None:
    before = set(workplace.iterdir())
    said = run([*line(kind), "--quiet"])
    assert said.code == 0
    for text in (*SHOWN[kind], "student on jsonl:asked.jsonl, split diagnose: 24 questions", "Cost:"):
        assert text in said.out
    assert "\x1b" not in said.out + said.err
    assert set(workplace.iterdir()) == before


@pytest.mark.parametrize("kind", CONFIGS)
def test_json_python_and_files_say_the_same(kind: str, workplace: Path, run: Command) -> None:
    said = run([*line(kind), "--json", "--out", "out", "--seed", "3"])
    assert said.code == 0
    assert said.out.count("\n") == 1
    found = json.loads(said.out)
    assert found == read_json(workplace / "out" / "summary.json")
    assert (found["probe"], found["questions"], found["seed"]) == (kind, 24, 3)
    assert all(one["verdict"] in said.err for one in found["teachers"].values())
    assert "\nReport: out/report.html\n" in said.err and (workplace / "out" / "report.html").exists()
    options = {
        "prefix": {},
        "continuation": {"depth": ["0", "1", "50%"], "samples": 2},
        "aggregation": {"teacher": ["good=good", "self+answer", "self+solution"]},
        "pattern": {"samples": 4, "k": 4},
    }[kind]
    named = {"teacher": "good=good"} | options
    result = hydrometer.probe(
        kind, student="student", task="jsonl:asked.jsonl", max_response_tokens=6, seed=3, batch_size=5, **named
    )
    for name, table in result.tables.items():
        kept = read_table(workplace / "out" / f"{name}.parquet")
        assert table.select("question_id").equals(kept.select("question_id"))
        if name == "responses":
            assert table.equals(kept)


def test_the_teacher_of_a_checkpoint_is_where_the_table_says(workplace: Path, run: Command) -> None:
    assert run([*line("pattern"), "--out", "out"]).code == 0
    tokens = read_table(workplace / "out" / "tokens.parquet").filter(position=0)
    assert set(tokens["teacher"]) == {"good"}
    for row in tokens.to_dicts():
        student, good = {4: (0.45, 0.7), 5: (0.35, 0.2), 6: (0.2, 0.1)}[row["token_id"]]
        assert row["student_logprob"] == pytest.approx(math.log(student), abs=1e-4)
        assert row["teacher_logprob"] == pytest.approx(math.log(good), abs=1e-4)


def test_options_come_from_a_file(workplace: Path, run: Command) -> None:
    (workplace / "probe.toml").write_text(
        'student = "student"\nteacher = ["good=good"]\ntask = "jsonl:asked.jsonl"\nquestions = 7\n'
        "samples = 3\nmax_response_tokens = 6\n"
    )
    found = json.loads(run(["probe", "pattern", "--config", "probe.toml", "--questions", "6", "--json"]).out)
    assert (found["questions"], found["samples"]) == (6, 3)
    said = run(["probe", "prefix", "--config", "probe.toml"])
    assert said.code == 2
    assert "samples" in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("probe prefx", "prefx"),
        ("probe prefix --student bundled:studnt", "'studnt'. Did you mean student"),
        ("probe prefix --teacher self+answr", "'answr'. Did you mean answer"),
        ("probe prefix --depth 3", "--depth"),
        ("probe continuation --depth 200%", "--depth '200%'"),
        ("probe continuation --depth half", "--depth 'half'"),
        ("probe prefix --student student --teacher bundled:expert --task jsonl:asked.jsonl", "another meaning"),
        ("probe prefix --student student --teacher good=good --task jsonl:asked.jsonl --resume", "with --out"),
        ("probe prefix --student student --teacher good=good --task jsonl:asked.jsonl --out good", "is not empty"),
        ("probe prefix --student student --teacher good=good --task jsonl:asked.jsonl --split test", "'test'"),
        ("probe aggregation --student student --teacher self+summary --task jsonl:asked.jsonl", "'summary' needs"),
    ],
)
def test_what_cannot_be_is_quoted_and_exits_2(text: str, words: str, workplace: Path, run: Command) -> None:
    assert_refused(run, text, words, workplace)


def test_an_interrupted_probe_exits_130_and_is_resumed(workplace: Path, run: Command) -> None:
    options = ["probe", "pattern", *OPTIONS, "--questions", "6", "--samples", "16"]
    process = start(SMALL_ROUNDS, [*options, "--out", "out"], workplace)
    wait_for_rounds(workplace / "out", 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "--resume" in err
    assert "Traceback" not in err
    kept = (workplace / "out" / "journal.jsonl").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydrometer.runs.drawing.round_size", lambda model, limit: 8)
        assert run([*options, "--out", "out", "--resume"]).code == 0
    assert (workplace / "out" / "journal.jsonl").read_bytes().startswith(kept)
    assert read_json(workplace / "out" / "run.json")["status"] == "done"
