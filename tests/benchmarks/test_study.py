"""The training study: its arms can be run, its estimates are right, its tables show what the run folders hold."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_answers import write_answers

from benchmarks import study_arms
from benchmarks.study_arms import ARMS, run_arm, teacher_folder
from benchmarks.study_figures import draw_part, smooth
from benchmarks.study_parts import PARTS
from benchmarks.study_results import (
    estimate_accuracy,
    estimate_change,
    estimate_recovery,
    read_curve,
    seeds_of,
)
from benchmarks.study_tables import describe_costs, describe_part, fill_document
from hydrometer.artifacts import write_json
from hydrometer.artifacts.metrics import find_metric
from hydrometer.training.config import TrainConfig

QUESTIONS = 6


def leave_run(
    folder: Path,
    *,
    right: dict[int, Sequence[int]],
    metrics: dict[str, Sequence[float]],
    text: str = "",
    alarms: Sequence[str] = (),
) -> None:
    """A run folder with two responses to each question, of which `right[step]` says how many are correct."""
    texts = {step: text if step else "+8=55\n" for step in right}
    write_answers(folder, right, samples=2, texts=texts)
    lines = [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_json(folder / "summary.json", {"alarms": [{"name": name} for name in alarms]})


def cells(table: str, arm: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| `{arm}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two seeds of `full`, one of `early` and its teacher."""
    curve = [0.5, *[0.9] * 5]
    shown = {"overlap_ratio": curve, "student_overlap_mass": curve, "reverse_kl": curve, "gradient_norm": curve}
    metrics = {**shown, "accuracy": curve}
    lower = {**metrics, "overlap_ratio": [0.5, *[0.7] * 5]}
    leave_run(tmp_path / "full-0", right={0: [1] * 6, 50: [2, 2, 2, 2, 1, 1]}, metrics=metrics)
    leave_run(tmp_path / "full-1", right={0: [1] * 6, 50: [2, 1, 2, 1, 1, 1]}, metrics=lower)
    leave_run(tmp_path / "early-0", right={0: [1] * 6, 50: [0, 0, 1, 1, 1, 1]}, metrics=metrics)
    leave_run(tmp_path / "teacher-early", right={0: [0, 0, 0, 0, 1, 1]}, metrics={})
    return tmp_path


def test_every_part_names_arms_and_metrics_that_exist() -> None:
    own = {"gap_recovery", "checked_steps", "says_reference", "alarms"}
    for part in PARTS.values():
        assert set(part.arms) <= set(ARMS)
        assert set(part.arms.values()) - {""} <= set(part.arms)
        for name in {*part.shown, *part.drawn} - own:
            find_metric(name)
    assert {arm for part in PARTS.values() for arm in part.arms} == set(ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_options_of_every_arm_are_options_of_train(name: str) -> None:
    config = TrainConfig(**{**study_arms.COMMON, **ARMS[name].options})
    assert config.steps in (50, 60)
    assert config.teacher or config.objective in (("dr_grpo",), ("sft",))


def test_an_arm_is_run_once_after_the_arm_it_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[dict[str, Any]] = []

    def work(out: Path, **options: Any) -> None:
        done.append({"out": out.name, **options})
        out.mkdir()
        write_json(out / "summary.json", {})

    def collect(out: Path, options: Any, **_: Any) -> None:
        work(out, **options)
        (out / "answers.jsonl").touch()

    for name, fake in (("train", work), ("evaluate", work), ("collect_answers", collect)):
        monkeypatch.setattr(study_arms, name, fake)
    folder = run_arm(tmp_path, "other_after_cold_start", 2)
    run_arm(tmp_path, "other_after_cold_start", 2)
    run_arm(tmp_path, "length_16", 0)
    assert folder == tmp_path / "other_after_cold_start-2"
    first = ["answers", "imitated-2", "other_after_cold_start-2", "teacher-other-pattern"]
    assert [entry["out"] for entry in done] == [*first, "length_16-0", "exam-length_16-0", "teacher-expert"]
    assert done[2]["student"] == str(tmp_path / "imitated-2" / "model") and done[2]["seed"] == 2
    assert done[1]["sft_from"] == str(tmp_path / "answers" / "answers.jsonl")
    assert done[4]["max_response_tokens"] == 16 and "max_response_tokens" not in done[5]
    noted = [json.loads(line)["what"] for line in (tmp_path / "costs.jsonl").read_text().splitlines()]
    assert noted == [entry["out"] for entry in done]


def test_the_teacher_is_asked_in_the_words_of_the_arm(tmp_path: Path) -> None:
    assert teacher_folder(tmp_path, "full") == tmp_path / "teacher-expert"
    assert teacher_folder(tmp_path, "own_words") == tmp_path / "teacher-expert-own_words"
    assert teacher_folder(tmp_path, "rule") is None and teacher_folder(tmp_path, "dr_grpo") is None


def test_gap_recovery_is_the_ratio_of_means_with_the_interval_of_the_jackknife() -> None:
    rng = np.random.default_rng(4)
    start, teacher = rng.uniform(0.2, 0.6, (1, 80)), rng.uniform(0.8, 1.0, 80)
    end = start + 0.5 * (teacher - start) + 0.1 * rng.standard_normal((1, 80))
    found = estimate_recovery(np.repeat(start, 2, 0), np.repeat(end, 2, 0), teacher)  # two seeds that agree
    gained, gap = (end - start)[0], (teacher - start)[0]
    assert found.value == pytest.approx(gained.sum() / gap.sum())
    left_out = (gained.sum() - gained) / (gap.sum() - gap)
    error = np.sqrt(79 / 80 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.9905 * error, rel=0.02)


def test_gap_recovery_without_noise_has_no_width() -> None:
    start, teacher = np.array([[0.2, 0.4, 0.0, 0.3, 0.5]] * 2), np.array([0.8, 0.4, 1.0, 0.9, 0.7])
    found = estimate_recovery(start, start + 0.25 * (teacher - start), teacher)
    assert found.value == pytest.approx(0.25)
    assert found.low is None or found.high == pytest.approx(found.low)


def test_accuracies_stay_within_0_and_1() -> None:
    found = estimate_accuracy(np.array([[1.0] * 9 + [0.5], [1.0] * 10]))
    assert found.value == pytest.approx(0.975)
    assert found.high == 1.0 and found.low is not None and found.low < 0.95


def test_change_is_the_mean_over_seeds_with_their_range() -> None:
    assert estimate_change(np.array([1.0, 3.0, 2.0]), np.array([4.0, 9.0, 5.0])) == (2.0, 6.0, 4.0, 9.0)


def test_curves_are_running_means() -> None:
    assert smooth(np.array([1.0, 3.0, 2.0, 2.0, 2.0, 7.0])) == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 3.2])
    assert np.isnan(smooth(np.array([np.nan, 1, 1, 1, 1, 1, 1]))).tolist() == [True] * 5 + [False] * 2


def test_the_table_pairs_what_both_arms_have(study: Path) -> None:
    table = describe_part(study, "iv")
    full, early = cells(table, "full"), cells(table, "early")
    assert full[:4] == ["`full`", "2", "", "50.0 %"]
    assert full[4].startswith("75.0 % [")  # 10 of 12 and 8 of 12
    assert early[:5] == ["`early`", "1", "16.7 %", "50.0 %", "33.3 %"]
    assert early[5] == "-50.0 points to `full`"  # seed 0 alone, hence without an interval
    assert early[6] == "50.0 %"  # half of the way from 50 % down to the teacher's 16.7 %
    assert early[7] == "0.500 → 0.900" and full[7] == "0.500 → 0.800 (0.700 to 0.900)"


def test_unfinished_runs_are_not_counted(study: Path) -> None:
    (study / "full-1" / "summary.json").unlink()
    assert seeds_of(study, "full") == [0]
    leave_run(study / "length_16-0", right={0: [0] * 6, 50: [0] * 6}, metrics={})
    assert seeds_of(study, "length_16") == []  # its exam is missing


def test_checks_and_references_are_counted_in_the_test_responses(tmp_path: Path) -> None:
    metrics = {name: [0.0] * 5 for name in ("reverse_kl", "response_tokens_mean")}
    text = "as the reference sas\n+8=65?15:55\n*2=10\nanswer 10"
    leave_run(tmp_path / "rule-0", right={0: [1] * 6, 50: [1] * 6}, metrics=metrics, text=text)
    assert cells(describe_part(tmp_path, "v"), "rule")[6:8] == ["0.000 → 0.500", "0.000 → 1.000"]


def test_alarms_are_counted_once_a_seed(tmp_path: Path) -> None:
    metrics = {
        name: [0.0] * 5 for name in ("student_topk_mass", "student_entropy", "repeat_ratio", "response_tokens_mean")
    }
    for seed, alarms in enumerate((["truncation", "truncation", "repetition"], ["truncation"], [])):
        leave_run(tmp_path / f"k1_loss-{seed}", right={0: [1] * 6, 50: [1] * 6}, metrics=metrics, alarms=alarms)
    assert cells(describe_part(tmp_path, "iii"), "k1_loss")[-1] == "repetition 1, truncation 2"


def test_metrics_that_are_null_are_not_numbers(tmp_path: Path) -> None:
    tmp_path.joinpath("imitated-0").mkdir()
    (tmp_path / "imitated-0" / "metrics.jsonl").write_text('{"loss": 1.0, "accuracy": null}\n{"loss": 2.0}\n')
    assert np.isnan(read_curve(tmp_path, "imitated", 0, "accuracy")).all()
    assert read_curve(tmp_path, "imitated", 0, "loss").tolist() == [1.0, 2.0]


def test_tables_of_a_document_are_made_anew(study: Path) -> None:
    text = "# Study\n\n<!-- study: iv -->\nold\n<!-- end -->\n\nread\n\n<!-- study: costs -->\n<!-- end -->\n"
    filled = fill_document(text, study)
    assert "old" not in filled and cells(filled, "early")[4] == "33.3 %"
    assert filled.startswith("# Study\n\n<!-- study: iv -->\n| arm |") and filled.endswith("noted.\n<!-- end -->\n")
    assert "\n<!-- end -->\n\nread\n\n" in filled and fill_document(filled, study) == filled


def test_costs_are_summed(tmp_path: Path) -> None:
    lines = [{"what": "full-0", "cpu_s": 45.0}, {"what": "full-1", "cpu_s": 75.0}]
    (tmp_path / "costs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert describe_costs(tmp_path) == "2 runs, evaluations and probes, 2 CPU minutes; the longest took 75 s."


def test_figures_are_small_files(study: Path) -> None:
    path = draw_part(study, "iv", study / "images")
    assert path.name == "study-iv.png" and path.read_bytes()[:4] == b"\x89PNG"
    assert 2_000 < path.stat().st_size < 60_000
