"""The study of predictive validity: a balanced design, controls that are what they are called, small tables."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from made_answers import write_answers
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import predictive_results
from benchmarks.predictive_cells import (
    BLOCKS,
    CELLS,
    DIAGNOSIS,
    OBJECTIVES,
    PAPERS,
    PRIMARY,
    SECOND,
    TEACHERS,
    TRAINING,
)
from benchmarks.predictive_controls import CONTROLS, make_control
from benchmarks.predictive_gather import gather
from benchmarks.predictive_results import estimate_gains, read_results, score_names, trained_scores, whole_seeds
from benchmarks.predictive_runs import teacher_spec
from benchmarks.predictive_tables import describe_splits, describe_values, fill_document
from benchmarks.predictive_tokens import ADVISED, RULES, describe_tokens
from benchmarks.study_arms import COSTS
from hydrometer.alignment.choice import NO_OBJECTIVE
from hydrometer.artifacts import build_table, write_json, write_table
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.models.family import family_folder
from hydrometer.training.config import TrainConfig
from hydrometer.training.weighing import build_weigher
from hydrometer.types import NO_TEACHER

QUESTIONS = 6
BLOCK = "small"
EXPERT = next(cell for cell in CELLS if cell.block == BLOCK and cell.teacher == "expert")


def test_every_teacher_stands_in_two_blocks_once_with_reverse_kl() -> None:
    assert len(CELLS) == 28
    assert Counter(cell.block for cell in CELLS) == dict.fromkeys(BLOCKS, 7)
    for teacher in TEACHERS:
        mine = [cell for cell in CELLS if cell.teacher == teacher]
        assert len({cell.block for cell in mine}) == 2
        assert sorted(cell.objective == "reverse_kl" for cell in mine) == [False, True]
    assert Counter(cell.objective for cell in CELLS) == {"reverse_kl": 14, "forward_kl": 7, "top5": 7}


def test_the_options_are_options(tmp_path: Path) -> None:
    teachers = [teacher_spec(tmp_path, name) for name in ("expert", "rule")]
    objectives = list(OBJECTIVES.values())
    assert DiagnoseConfig(teacher=tuple(teachers), objective=tuple(objectives), **DIAGNOSIS).continuation == "both"
    assert TrainConfig(teacher=tuple(teachers), objective=tuple(objectives), **TRAINING).steps == 30


def test_rules_for_tokens_are_rules() -> None:
    for rule, weights in RULES.items():
        if rule not in ADVISED:
            build_weigher(weights)


@pytest.fixture(scope="module")
def next_logits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Of the expert and of every control, after the same text."""
    folder = tmp_path_factory.mktemp("controls")
    ids = AutoTokenizer.from_pretrained(str(family_folder("expert")))("+8=55", return_tensors="pt")["input_ids"]
    paths = {"expert": family_folder("expert")} | {name: make_control(folder, name) for name in CONTROLS}
    found = {}
    for name, path in paths.items():
        model = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32)
        with torch.no_grad():
            found[name] = model(ids).logits[0].double()
    return found


def test_made_teachers_differ_from_the_expert_as_they_are_said_to(next_logits: dict[str, torch.Tensor]) -> None:
    expert = next_logits["expert"]
    ids = AutoTokenizer.from_pretrained(str(family_folder("expert"))).get_vocab()
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(next_logits["uniform"], torch.zeros_like(expert))
    torch.testing.assert_close(next_logits["sharpened"], 2.0 * expert, **close)
    torch.testing.assert_close(next_logits["flattened"], 0.5 * expert, **close)
    order = list(range(expert.shape[-1]))
    order[ids["3"]], order[ids["8"]] = ids["8"], ids["3"]
    torch.testing.assert_close(next_logits["swapped"], expert[:, order], **close)
    torch.testing.assert_close(next_logits["careless"][:, ids["?"]], expert.mean(-1), **close)
    others = [place for place in order if place != ids["?"]]
    torch.testing.assert_close(next_logits["careless"][:, others], expert[:, others], **close)


def leave_answers(folder: Path, right: list[int], samples: int) -> None:
    """An evaluation in which `right[question]` of the samples are correct."""
    write_answers(folder, {0: right}, samples=samples)
    write_json(folder / "summary.json", {})


def leave_diagnosis(folder: Path) -> None:
    """One arm with two scores, one split, and its value."""
    named = {"teacher": "expert", "objective": "reverse_kl", "low": None, "high": None, "n": 9, "reason": None}
    nobody = {"teacher": NO_TEACHER, "objective": NO_OBJECTIVE}
    scores = [
        named | {"continuation": "expert", "score": "path_advantage", "value": 0.5},
        named | {"continuation": "student", "score": "pooled_cosine", "value": None},
        named | {"continuation": None, "score": "reverse_kl", "value": 0.4},
        named | nobody | {"continuation": None, "score": "reverse_kl", "value": 0.0},
    ]
    folder.mkdir(parents=True)
    write_table(folder / "scores.parquet", build_table("scores", scores))
    metrics = {metric: {"value": 0.1} for metric in ("mean_cosine", "pooled_cosine", "mean_advantage", "mean_signal")}
    metrics_incorrect = metrics | {"mean_cosine": {"value": 0.4}}
    arm = {"teacher": "expert", "objective": "reverse_kl", "continuation": "expert", "reference": False}
    arm |= {"scores": {"correct": metrics, "incorrect": metrics_incorrect}}
    known = {"value": 0.5, "interval": [0.4, 0.6]}
    value = {"teacher": "expert", "holds": True} | dict.fromkeys(
        ("teacher_value", "student_value", "difference", "measured"), known
    )
    write_json(folder / "summary.json", {"arms": [arm], "values": [value]})


@pytest.fixture
def gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of a study of one cell, of which two seeds are there."""
    monkeypatch.setattr(predictive_results, "CELLS", (EXPERT,))
    out = tmp_path / "out"
    leave_answers(out / f"before-{BLOCK}", [4, 4, 4, 4, 4, 4], samples=8)
    for seed, right in ((0, [4, 4, 4, 2, 2, 2]), (1, [4, 4, 4, 4, 4, 4])):
        leave_answers(out / f"after-{EXPERT.name}-{seed}", right, samples=4)
    leave_diagnosis(out / f"diagnosis-{BLOCK}")
    costs = [("diagnosis-small", 9.0), (f"{EXPERT.name}-0", 3.0), (f"{EXPERT.name}-1", 4.0)]
    lines = "".join(f'{{"what": "{what}", "cpu_s": {seconds}}}\n' for what, seconds in costs)
    (out / COSTS).write_text(lines, encoding="utf-8")
    gather(out, tmp_path / "results")
    return tmp_path / "results"


def test_gains_are_paired_by_question_over_the_seeds_that_all_cells_have(gathered: Path) -> None:
    """From a half to 3/4 in seed 0 and to 1 in seed 1; the interval holds the seeds' spread."""
    answers = read_results(gathered)["answers"]
    assert whole_seeds(answers) == [0, 1]
    [gain] = estimate_gains(answers)
    assert gain.cell == EXPERT
    assert (gain.before, gain.seeds, gain.estimate.value) == (0.5, 2, pytest.approx(0.375))
    assert gain.estimate.low is not None
    assert gain.estimate.low < 0.25


def test_a_cell_is_the_run_on_all_tokens(gathered: Path) -> None:
    tokens = read_results(gathered)["tokens"]
    runs = tokens.group_by("teacher", "rule", "seed").agg(pl.col("after", "rule_share").mean()).sort("seed")
    assert runs.rows() == [("expert", "all", 0, 0.75, 1.0), ("expert", "all", 1, 1.0, 1.0)]


def test_scores_are_named_by_who_continued(gathered: Path) -> None:
    scores = read_results(gathered)["scores"]
    assert set(score_names(scores)) == {"path_advantage, teacher", "pooled_cosine, student", "reverse_kl"}
    values = {name: float(trained_scores(scores, name)[0]) for name in score_names(scores)}
    assert values["path_advantage, teacher"] == 0.5
    assert np.isnan(values["pooled_cosine, student"])
    assert values["reverse_kl"] == 0.4


def test_what_is_compared_exists_in_a_diagnosis() -> None:
    assert {name.partition(", ")[2] for name in (PRIMARY, SECOND)} == {"teacher"}
    assert PAPERS == "pooled_cosine, student"


def test_small_tables_become_markdown(gathered: Path) -> None:
    tables = read_results(gathered)
    splits = describe_splits(tables["splits"])
    assert "| `mean_cosine` | teacher | 1 of 1 | 1 of 1 | 0 of 0 | 0 of 0 | 0 of 0 | +0.300 |" in splits
    assert "| `pooled_cosine` | teacher | 0 of 1 |" in splits
    assert "| small | `expert` | +0.50 [+0.40, +0.60] | +0.50 [+0.40, +0.60] | yes |" in describe_values(
        tables["values"]
    )
    costs = pl.read_csv(gathered / "costs.csv").to_dicts()
    assert costs == [{"kind": "diagnosis", "runs": 1, "cpu_s": 9.0}, {"kind": "training", "runs": 2, "cpu_s": 7.0}]


def test_tokens_are_compared_with_as_many_at_random() -> None:
    rows = [
        {
            "teacher": "expert",
            "rule": rule,
            "seed": 0,
            "question": question,
            "before": 0.5,
            "after": after + 0.1 * (question % 2),
            "trained_share": 0.25,
            "rule_share": 0.4,
        }
        for rule, after in (("random", 0.6), ("incorrect", 0.8))
        for question in range(QUESTIONS)
    ]
    table = describe_tokens(pl.DataFrame(rows)).splitlines()
    assert "| `expert` | random | 1 | 40 % | 25 % | +15.0 points" in table[2]
    assert "| `expert` | incorrect | 1 | 40 % | 25 % | +35.0 points" in table[4]
    assert "+20.0 points [+20.0, +20.0]" in table[4]
    assert table[8].startswith("| `expert` | advised | 0 |")


def test_a_document_is_filled_at_its_places() -> None:
    text = "a\n<!-- predictive: state -->\nold\n<!-- end -->\nb\n"
    assert fill_document(text, {"state": "new"}) == "a\n<!-- predictive: state -->\nnew\n<!-- end -->\nb\n"
