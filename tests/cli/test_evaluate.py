"""`hydrometer evaluate` on a tiny real checkpoint: what is printed where, files, exit codes, interrupts."""

import json
import shlex
import signal
from pathlib import Path

import pytest
from bigram_checkpoint import STUDENT, write_checkpoint
from command_line import assert_refused
from test_interrupts import start, wait_for_rounds
from tiny_runs import QUESTIONS, Command, write_rows

import hydrometer
from hydrometer.artifacts import read_json, read_table

EVALUATE = shlex.split("evaluate --model student --task jsonl:tested.jsonl --max-response-tokens 6")
SMALL_ROUNDS = """
import sys
import hydrometer.runs.drawing as drawing
drawing.round_size = lambda model, limit: 8
from hydrometer.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture
def workplace(workplace: Path) -> Path:
    """The current folder also has `tested.jsonl`, whose questions are all of the split test."""
    write_rows(workplace / "tested.jsonl", [row | {"split": "test"} for row in QUESTIONS])
    return workplace


def exact_success() -> float:
    """P(the last line is "a") of the bigram student, by summing over responses of at most six tokens."""
    total, alive = 0.0, {("", ""): 1.0}
    for _ in range(6):
        following: dict[tuple[str, str], float] = {}
        for (line, last), p in alive.items():
            for token, q in STUDENT[last or ">"].items():
                if token == "<eos>":
                    total += p * q * (line == "a")
                    continue
                key = ("" if token == "\n" else (line + token)[:2], token)
                following[key] = following.get(key, 0.0) + p * q
        alive = following
    return total + sum(p for (line, _), p in alive.items() if line == "a")  # the limit ends them, and they are graded


def test_accuracy_of_a_real_checkpoint_is_the_enumerated_one(workplace: Path, run: Command) -> None:
    said = run([*EVALUATE, "--samples", "400", "--json", "--quiet"])
    assert said.code == 0
    assert said.out.count("\n") == 1
    found = json.loads(said.out)
    expected = exact_success()
    assert found["accuracy"]["value"] == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 2400) ** 0.5)
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]
    assert (found["model"], found["task"]) == ("student", "jsonl:tested.jsonl")
    assert (found["questions"], found["samples"]) == (6, 400)
    assert list(found["pass_at"]) == ["1", "2", "4", "8", "16", "32", "64", "128", "256"]
    assert found["pass_at"]["4"]["value"] == pytest.approx(1 - (1 - expected) ** 4, abs=0.05)
    assert "Cost:" in said.err


def test_what_was_found_is_printed_and_nothing_is_written(workplace: Path, run: Command) -> None:
    before = set(workplace.iterdir())
    said = run([*EVALUATE, "--samples", "4"])
    assert said.code == 0
    for text in ("6 questions, 4 responses each", "accuracy", "pass@2", "pass@4", "95 % over", "Cost: 24 responses"):
        assert text in said.out
    assert "\x1b" not in said.out + said.err
    assert set(workplace.iterdir()) == before


def test_the_default_is_eight_samples_of_the_split_test(workplace: Path, run: Command) -> None:
    found = json.loads(run([*EVALUATE, "--json"]).out)
    assert (found["samples"], found["split"], found["greedy"]) == (8, "test", False)
    greedy = json.loads(run([*EVALUATE, "--greedy", "--json"]).out)
    assert (greedy["samples"], greedy["accuracy"]["value"]) == (1, 1.0)  # "a" and the end are likeliest


def test_two_models_are_compared(workplace: Path, run: Command) -> None:
    said = run([*EVALUATE, "--samples", "200", "--against", "good", "--out", "out"])
    assert said.code == 0
    assert "student minus good, paired by question: -" in said.out
    assert "Wilcoxon" in said.out
    summary = read_json(workplace / "out" / "summary.json")
    assert summary["comparison"]["difference"]["high"] < 0
    assert summary["against"]["accuracy"]["value"] > summary["accuracy"]["value"]
    assert read_table(workplace / "out" / "evaluation.parquet")["model"].unique().sort().to_list() == [
        "against",
        "model",
    ]
    single = run([*EVALUATE, "--greedy", "--against", "good"])
    assert "McNemar: p = none" in single.out
    assert "(no interval: no question differs)" in " ".join(single.out.split())


def test_python_and_command_line_give_the_same(workplace: Path, run: Command) -> None:
    assert run([*EVALUATE, "--samples", "5", "--seed", "3", "--out", "out"]).code == 0
    result = hydrometer.evaluate(
        model="student", task="jsonl:tested.jsonl", samples=5, max_response_tokens=6, seed=3, batch_size=2
    )
    assert result.table.equals(read_table(workplace / "out" / "evaluation.parquet"))
    run_json = read_json(workplace / "out" / "run.json")
    assert (run_json["kind"], run_json["status"], run_json["cost"]["rollouts"]) == ("evaluation", "done", 30)
    assert run_json["models"]["model"]["fingerprint"].startswith("sha256:")


def test_options_come_from_a_file_and_prompts_can_be_plain(workplace: Path, run: Command) -> None:
    write_checkpoint(workplace / "base", STUDENT, chat=False)
    (workplace / "eval.toml").write_text('model = "base"\ntask = "jsonl:tested.jsonl"\nsamples = 3\nquestions = 5\n')
    said = run(["evaluate", "--config", "eval.toml"])
    assert said.code == 2
    assert "'base' has no chat template" in said.err
    found = json.loads(run(["evaluate", "--config", "eval.toml", "--plain-prompt", "--samples", "2", "--json"]).out)
    assert (found["model"], found["samples"], found["questions"]) == ("base", 2, 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evaluate --model bundled:studnt", "'studnt'. Did you mean student"),
        ("evaluate --model ./nowhere", "'./nowhere' looks like a folder"),
        ("evaluate --task jsnl:x", "'jsnl'. Did you mean jsonl"),
        ("evaluate --split dev", "dev"),
        ("evaluate --samples 0", "'samples' is '0'"),
        ("evaluate --samples many", "'many'"),
        ("evaluate --greedy --samples 8", "--samples 8 would all be the same response"),
        ("evaluate --model student --against student", "is the evaluated model itself"),
        ("evaluate --model student --task jsonl:questions.jsonl --split train", "no questions in the split 'train'"),
        ("evaluate --model student --task jsonl:tested.jsonl --resume", "name its folder with --out"),
        ("evaluate --sample 3", "--samples"),
        ("evaluate --model student --task jsonl:tested.jsonl --device warp", "'warp'"),
        ("evaluate --model student --task jsonl:tested.jsonl --out student", "--out student is not empty"),
        ("evaluate --model student --task jsonl:tested.jsonl --out student --resume", "holds other files"),
        ("evaluate --model student --task jsonl:tested.jsonl --chat-template-kwargs x=1", "knows a variable 'x'"),
    ],
)
def test_what_cannot_be_is_quoted_and_exits_2(line: str, words: str, workplace: Path, run: Command) -> None:
    assert_refused(run, line, words, workplace)


def test_other_options_and_a_used_folder_are_not_resumed(workplace: Path, run: Command) -> None:
    assert run([*EVALUATE, "--samples", "2", "--out", "out"]).code == 0
    assert "--out out is not empty" in run([*EVALUATE, "--samples", "2", "--out", "out"]).err
    said = run([*EVALUATE, "--samples", "3", "--out", "out", "--resume"])
    assert said.code == 2
    assert "samples: was 2, now 3" in said.err
    write_rows(workplace / "tested.jsonl", [row | {"split": "test", "answer": "c"} for row in QUESTIONS])
    said = run([*EVALUATE, "--samples", "2", "--out", "out", "--resume"])
    assert "task 'jsonl:tested.jsonl': its questions have changed" in said.err


def test_an_interrupted_evaluation_exits_130_and_is_resumed(workplace: Path, run: Command) -> None:
    options = [*EVALUATE, "--samples", "30"]
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
    straight = hydrometer.evaluate(model="student", task="jsonl:tested.jsonl", samples=30, max_response_tokens=6)
    assert read_table(workplace / "out" / "evaluation.parquet").equals(straight.table)


def test_without_a_folder_an_interrupt_promises_nothing(
    workplace: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hydrometer.evaluation.run.evaluate_model", interrupt)
    said = run(EVALUATE)
    assert (said.code, "--resume" in said.err) == (130, False)
    said = run([*EVALUATE, "--out", "out"])
    assert (said.code, "--resume" in said.err) == (130, True)


def test_out_of_memory_names_the_option_and_what_can_be_resumed(
    workplace: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError("cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("hydrometer.sampling.transformers_sampler._Batch.run", exhaust)
        said = run(EVALUATE)
        assert (said.code, "--batch-size" in said.err, "--resume" in said.err) == (2, True, False)
        said = run([*EVALUATE, "--out", "out"])
        assert (said.code, "--batch-size" in said.err, "--resume" in said.err) == (2, True, True)
    assert read_json(workplace / "out" / "run.json")["status"] == "failed"
    assert run([*EVALUATE, "--out", "out", "--resume"]).code == 0


def test_an_evaluation_has_a_page_and_no_advice(workplace: Path, run: Command) -> None:
    assert run([*EVALUATE, "--samples", "1", "--out", "out"]).out.endswith("\nReport: out/report.html\n")
    written = (workplace / "out" / "report.html").read_bytes()
    (workplace / "out" / "report.html").unlink()
    assert run(["report", "out"]).out == "out/report.html\n"
    assert (workplace / "out" / "report.html").read_bytes() == written
    said = run(["advice", "out"])
    assert said.code == 2
    assert "out is the folder of a run of kind 'evaluation'; expected a diagnosis" in said.err
