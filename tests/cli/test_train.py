"""`hydrometer train` on tiny checkpoints: what it prints, what it writes, and what it refuses in one message."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bigram_checkpoint import GOOD, TOKENS, write_checkpoint
from tiny_runs import QUESTIONS, Command, write_rows
from tiny_training import ROWS, tiny_training, write_training_task

from hydrometer.artifacts import open_run_folder, read_json, read_table
from hydrometer.models.transformers_model import load_model
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint


@pytest.fixture(autouse=True)
def task(workplace: Path) -> None:
    write_training_task(workplace)


def test_a_run_tells_before_and_after_and_leaves_a_model(workplace: Path, run: Command) -> None:
    said = run([*tiny_training(learning_rate="0.1"), "--quiet"])
    assert said.code == 0, said.err
    assert "student after 4 steps of reverse_kl with good" in said.out
    assert "accuracy before" in said.out and "accuracy after" in said.out and "difference" in said.out
    assert "Cost: 16 rollouts" in said.out
    assert said.out.endswith("\nTrained model: out/model\nReport: out/report.html\n")
    folder = workplace / "out"
    assert {path.name for path in folder.iterdir()} == {
        "alarms.jsonl",
        "checkpoints",
        "evaluation.parquet",
        "journal.jsonl",
        "lock",
        "metrics.jsonl",
        "model",
        "report.html",
        "run.json",
        "summary.json",
    }
    told = read_json(folder / "run.json")
    assert told["status"] == "done"
    assert {finding["level"] for finding in told["preflight"]["findings"]} <= {"green", "note"}
    table = read_table(folder / "evaluation.parquet")
    assert table.select("step", "question_id", "sample").rows() == [
        (step, f"test-q{question}", sample) for step in (0, 4) for question in (0, 1) for sample in (0, 1)
    ]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["loss"] == row["loss_reverse_kl"] and row["reverse_kl"] > 0 for row in rows)
    trained, start = (load_model(path) for path in ("out/model", "student"))
    assert not trained.network.lm_head.weight.equal(start.network.lm_head.weight)


def test_json_is_one_object_with_steps_and_metrics(run: Command) -> None:
    said = run([*tiny_training(steps="1"), "--json", "--no-check"])
    assert said.code == 0
    told = json.loads(said.out)
    assert (told["out"], told["steps"]) == ("out", 1)
    assert told["metrics"]["step"] == 1
    assert told["summary"]["after"]["accuracy"]["value"] >= 0.0
    assert read_json(Path("out") / "run.json")["preflight"] is None


def test_a_biased_objective_is_named_before_it_trains(run: Command) -> None:
    said = run(tiny_training(objective="topk_reverse_kl:k=2,form=unnormalised", steps="0"))
    assert said.code == 0
    assert "the unnormalised top-k loss is biased" in said.err + said.out


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"objective": "revrse_kl"}, "'revrse_kl'. Did you mean reverse_kl"),
    ({"objective": "0*reverse_kl"}, "'0*reverse_kl': its coefficient has to be a number above 0"),
    ({"teacher": "good=god"}, "'god'"),
    ({"teacher": "self+anser"}, "context 'anser'. Did you mean answer"),
    ({"teacher": "self+summary"}, "'summary' needs another model's texts"),
    ({"teacher": "self+aggregate:answer"}, "is for `hydrometer diagnose`"),
    ({"teacher": ""}, "Student 'student' needs a teacher"),
    ({"weights": "wrong"}, "--weights 'wrong': expected all, correct, incorrect"),
    ({"weights": "kl_above:2"}, "the quantile has to lie between 0 and 1"),
    ({"route": "best"}, "--route 'best': expected all, teacher_id"),
    ({"route": "correct=god"}, "'god'"),
    ({"route": "teacher_id"}, "question 'train-q0' has no teacher_id"),
    ({"top_p": "0.9"}, "--top-p 0.9: training compares whole distributions"),
    ({"objective": "dr_grpo", "teacher": "", "num_generations": "1"}, "give --num-generations 2 or more"),
    ({"objective": "dr_grpo"}, "no objective of this run learns from a teacher"),
    ({"objective": "dr_grpo", "teacher": "", "weights": "overlap"}, "weights are of the tokens that are distilled on"),
    ({"sft_from": "rows.jsonl"}, "nothing imitates it; add --objective sft"),
    ({"objective": "sft", "teacher": "", "sft_from": "rows.jsonl"}, "rows.jsonl cannot be read"),
    ({"task": "jsonl:nowhere.jsonl"}, "there is no file nowhere.jsonl"),
    ({"steps": "-1"}, "'steps' is '-1'"),
    ({"learning_rate": "0"}, "'learning_rate' is '0'"),
    ({"log_to": "wandb"}, "--log-to 'wandb': expected tensorboard or trackio"),
    ({"lora_rank": "2", "student": "nowhere"}, "nowhere"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_cannot_be_trained_is_told_before_anything_is_written(
    changes: dict[str, str], words: str, workplace: Path, run: Command
) -> None:
    said = run(tiny_training(**changes))
    assert said.code == 2
    assert words in said.err
    assert not (workplace / "out").exists()


def without(name: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != name} for row in ROWS]


def test_outcome_objectives_need_answers_and_others_do_not(workplace: Path, run: Command) -> None:
    write_rows(workplace / "plain.jsonl", without("answer"))
    said = run(tiny_training(task="jsonl:plain.jsonl", objective="dr_grpo", teacher=""))
    assert said.code == 2
    assert "answer" in said.err and "plain.jsonl" in said.err
    assert not (workplace / "out").exists()


def test_empty_splits_say_what_to_do(workplace: Path, run: Command) -> None:
    write_rows(workplace / "untold.jsonl", QUESTIONS)
    said = run(tiny_training(task="jsonl:untold.jsonl"))
    assert said.code == 2
    assert "no questions in the split 'train'" in said.err and "column 'split'" in said.err
    write_rows(workplace / "train.jsonl", [row for row in ROWS if row["split"] == "train"])
    said = run(tiny_training(task="jsonl:train.jsonl"))
    assert said.code == 2
    assert "no questions in the split 'test'" in said.err and "--eval-questions 0" in said.err
    assert not (workplace / "out").exists()
    assert run(tiny_training(task="jsonl:train.jsonl", eval_questions="0", steps="1")).code == 0


def test_a_teacher_with_another_token_map_lists_what_differs(workplace: Path, run: Command) -> None:
    swapped = (*TOKENS[:4], "b", "a", *TOKENS[6:])
    write_checkpoint(workplace / "swapped", GOOD, tokens=swapped)
    said = run(tiny_training(teacher="swapped=swapped"))
    assert said.code == 2
    assert "id 4: student 'a', swapped 'b'" in said.err
    assert not (workplace / "out").exists()


def test_used_locked_and_foreign_folders_are_refused_and_left_alone(workplace: Path, run: Command) -> None:
    (workplace / "notes").mkdir()
    (workplace / "notes" / "todo.txt").write_text("not ours")
    assert "not empty" in run(tiny_training(out="notes")).err
    assert "holds other files" in run([*tiny_training(out="notes"), "--resume"]).err
    with open_run_folder(workplace / "taken", resume=False):
        said = run([*tiny_training(out="taken"), "--resume", "--no-check"])
    assert said.code == 2 and "in use by another hydrometer process" in said.err
    evaluated = ["--model", "student", "--task", "jsonl:training.jsonl", "--samples", "1", "--out", "evaluated"]
    assert run(["evaluate", *evaluated, "--max-response-tokens", "4"]).code == 0
    before = {path: path.read_bytes() for path in (workplace / "evaluated").iterdir()}
    said = run([*tiny_training(out="evaluated"), "--resume", "--no-check"])
    assert said.code == 2
    assert "was made by another run" in said.err and "now training" in said.err
    assert before == {path: path.read_bytes() for path in (workplace / "evaluated").iterdir()}
    assert run([*tiny_training(out=""), "--resume"]).code == 2


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB"), MemoryError()]
)
def test_out_of_memory_names_the_options_and_keeps_the_last_step(
    failure: Exception, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*tiny_training(out="straight"), "--no-check"]).code == 0
    with monkeypatch.context() as patch:
        fail_at_call(patch, "hydrometer.training.loop.accumulate", 3, failure)
        said = run([*tiny_training(), "--no-check"])
    assert said.code == 2
    assert "--micro-batch" in said.err and "--batch-size" in said.err and "--resume" in said.err
    assert read_json(Path("out") / "run.json")["status"] == "failed"
    checkpoint = find_checkpoint(Path("out"))
    assert checkpoint is not None and read_checkpoint(checkpoint).step == 2
    assert run([*tiny_training(), "--resume", "--no-check"]).code == 0
    assert same_weights("out", "straight")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_weights_before_it(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*tiny_training(steps="2", out="straight"), "--no-check"]).code == 0
    with monkeypatch.context() as patch:
        spoil_loss_at_call(patch, 3)
        said = run([*tiny_training(), "--no-check"])
    assert said.code == 2
    assert "Step 3" in said.err and "nan" in said.err and "--learning-rate" in said.err
    assert read_json(Path("out") / "run.json")["status"] == "failed"
    assert same_weights("out", "straight"), "model/ holds what the second step made"


def fail_at_call(patch: pytest.MonkeyPatch, place: str, call: int, failure: BaseException) -> None:
    """The `call`-th use of a function raises."""
    module, _, name = place.rpartition(".")
    real = getattr(__import__(module, fromlist=[name]), name)
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise failure
        return real(*args, **options)

    patch.setattr(place, failing)


def spoil_loss_at_call(patch: pytest.MonkeyPatch, call: int) -> None:
    """The gradient of the `call`-th step is not a number."""
    import hydrometer.training.loop as loop

    real, calls = loop.accumulate, []

    def spoilt(student: Any, *args: Any, **options: Any) -> Any:
        found = real(student, *args, **options)
        calls.append(1)
        if len(calls) == call:
            next(student.network.parameters()).grad.fill_(float("nan"))
        return found

    patch.setattr(loop, "accumulate", spoilt)


def same_weights(first: str, second: str) -> bool:
    networks = [load_model(f"{folder}/model").network.state_dict() for folder in (first, second)]
    return all(networks[0][name].equal(tensor) for name, tensor in networks[1].items())


def test_a_report_that_cannot_be_built_does_not_fail_the_run(
    workplace: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(view: object) -> None:
        raise ZeroDivisionError("no such view")

    monkeypatch.setattr("hydrometer.report.build.build_training_view", fail)
    said = run([*tiny_training(steps="1"), "--no-check", "--quiet"])
    assert said.code == 0
    assert "could not be built (ZeroDivisionError: no such view). The run is complete" in said.err
    assert said.out.endswith("Trained model: out/model\n")
    assert read_json(workplace / "out" / "run.json")["status"] == "done"
