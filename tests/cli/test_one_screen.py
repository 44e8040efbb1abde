"""What a command says last fits a terminal of 24 lines and 80 columns, and says what it leaves to the report."""

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from hydrometer.alignment.wording import list_names
from hydrometer.artifacts import SCHEMA_VERSION, write_json
from hydrometer.cli.evaluate import print_evaluation
from hydrometer.cli.summary import print_summary
from hydrometer.cli.train import print_training
from hydrometer.diagnosis.run import Diagnosis
from hydrometer.evaluation.run import Evaluation
from hydrometer.training.run import Training

LINES, COLUMNS = 24, 80
COST = {"rollouts": 115_768, "generated_tokens": 3_321_431, "scored_tokens": 290_046, "cached_tokens": 0, "wall_s": 9.0}
TEACHERS = [
    f"{name}=self+rule:Check every step, and write {place} words" for place, name in enumerate("abcdefgh", start=1)
]
OBJECTIVES = ["reverse_kl", "forward_kl", "topk_reverse_kl:k=16,form=stop_gradient"]


def on_screen(*, height: int = LINES, is_terminal: bool = True) -> Console:
    return Console(
        file=io.StringIO(), width=COLUMNS, height=height, force_terminal=is_terminal, color_system=None, highlight=False
    )


def said(screen: Console) -> list[str]:
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= COLUMNS or not screen.is_terminal
    return lines


def large_summary(*, tilted: bool) -> dict[str, Any]:
    arms = [(teacher, objective) for teacher in TEACHERS for objective in OBJECTIVES]
    scores = [0.6 - 0.03 * place for place in range(len(arms))]
    splits = {split: {"pooled_cosine": {"value": 0.1}} for split in ("all", "correct", "incorrect")}
    ranking = [
        {"teacher": teacher, "objective": objective, "score": score, "interval": [score - 0.3, score + 0.3]}
        | {"p_within_epsilon": 0.5, "reason": None, "is_harm": False, "continuation": "student"}
        for (teacher, objective), score in zip(arms, scores, strict=True)
    ]
    nobody = {"teacher": "no teacher", "objective": "none", "score": 0.0, "interval": None}
    nobody |= {"p_within_epsilon": 0.0, "reason": None, "is_harm": False, "continuation": "student"}
    ranking.insert(20, nobody)
    tilt = {"derivative": {"value": 1.0, "interval": [0.5, 1.5]}, "auroc": {"value": 0.75}}
    return {
        "arms": [
            {"teacher": teacher, "objective": objective, "continuation": "student", "scores": splits}
            for teacher, objective in arms
        ],
        "ranking": ranking,
        "ranked_by": "outcomes" if tilted else "branches",
        "verdict": f"Not separated yet: {TEACHERS[0]} leads, but cannot be told apart from {list_names(TEACHERS[1:])}.",
        "harms": [],
        "confirm": None,
        "warnings": [f"Warning {place}: {'this could matter ' * 8}." for place in range(9)],
        "analyses": {"sequence_tilt": [{"teacher": teacher} | tilt for teacher in TEACHERS] if tilted else []},
        "cost": COST,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "report.html").touch()
    return Path("out")


@pytest.mark.parametrize("tilted", [False, True])
def test_a_diagnosis_of_many_arms_ends_within_a_screen(folder: Path, *, tilted: bool) -> None:
    summary = large_summary(tilted=tilted)
    screen = on_screen()
    print_summary(Diagnosis(folder, summary, {}), screen)
    lines = said(screen)
    assert len(lines) < LINES, "the prompt comes below"
    text = "\n".join(lines)
    assert text.count("a=self+rule") >= 2 and "no teacher" in text
    shown = sum("…" in line and "[+" in line for line in lines)
    assert shown >= 3
    assert f"In the report: {len(TEACHERS) * len(OBJECTIVES) - shown} more arms and 9 more warnings." in text
    assert lines[-1] == "Report: out/report.html"
    assert "Cost: 115,768 rollouts" in text


def test_the_first_harm_is_part_of_the_answer_and_the_second_ranking_is_one_line(folder: Path) -> None:
    summary = large_summary(tilted=False)
    for line in summary["ranking"][21:]:
        line["is_harm"] = True
    ahead = [line | {"continuation": line["teacher"]} for line in summary["ranking"][:3]]
    ahead += [summary["ranking"][20] | {"continuation": "teacher"}]
    arms = [*summary["arms"], *(arm | {"continuation": arm["teacher"]} for arm in summary["arms"])]
    both = {"arms": arms, "ranking": [*ahead, *summary["ranking"]], "harms": ["h does harm.", "g does harm."]}
    screen = on_screen(is_terminal=False)
    print_summary(Diagnosis(folder, summary | both, {}), screen)
    lines = said(screen)
    answer = [place for place, line in enumerate(lines) if line.startswith("h does harm.")]
    assert answer and lines.index("- g does harm.") > answer[0]
    assert sum("[+" in line or "[-" in line for line in lines) == len(ahead) - 1, "one ranking in the table"
    text = " ".join(" ".join(lines).split())
    assert "Above, each teacher continues by itself. Where the student does, a=self" in text
    alone = on_screen(is_terminal=False)
    print_summary(Diagnosis(folder, summary, {}), alone)
    assert "4 worse" in " ".join(" ".join(said(alone)).split())


def test_a_log_gets_every_warning_and_a_taller_screen_more_of_them(folder: Path) -> None:
    summary = large_summary(tilted=False)
    told = {}
    for name, screen in {"log": on_screen(is_terminal=False), "tall": on_screen(height=40)}.items():
        print_summary(Diagnosis(folder, summary, {}), screen)
        told[name] = sum(line.startswith("- Warning") for line in said(screen))
    assert told["log"] == 9
    assert 2 <= told["tall"] < 9


def test_a_training_with_many_alarms_ends_within_a_screen(folder: Path) -> None:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    rows = [{"step": step, "reverse_kl": 1.0 / step, "overlap_ratio": 0.5, "entropy_gap": 0.1} for step in (1, 2)]
    pl.DataFrame(rows).write_ndjson(folder / "metrics.jsonl")
    write_json(folder / "run.json", {"schema_version": SCHEMA_VERSION, "kind": "training", "status": "done"})
    alarms = [
        {
            "name": f"sign_{place}",
            "step": 20,
            "metrics": ["loss", "accuracy"],
            "mechanism": "M " * 90,
            "cure": "C " * 90,
        }
        for place in range(9)
    ]
    summary = {"student": "s", "steps": 2, "objectives": ["reverse_kl"], "teachers": ["t"], "task": "task"}
    summary |= {"split": "test", "questions": 40, "samples": 8, "alarms": alarms, "cost": COST}
    summary |= {"before": {"accuracy": estimate}, "after": {"accuracy": estimate}}
    summary["comparison"] = {"difference": estimate | {"value": 0.1}}
    screen = on_screen()
    print_training(Training(folder, summary), screen)
    text = "\n".join(said(screen))
    assert len(text.splitlines()) < LINES
    assert "difference       +10.0 points [+40.0, +60.0]" in text
    assert "Alarm at step 20: sign_4, seen in loss, accuracy" in text and "sign_5" not in text
    assert "In the report: 4 more alarms, what alarms mean, and what to do." in text


@pytest.mark.parametrize("has_folder", [False, True])
def test_an_evaluation_with_many_warnings_ends_within_a_screen(folder: Path, *, has_folder: bool) -> None:
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ("accuracy", "strict_accuracy", "relaxed_accuracy", "parsed_share", "truncated_share")
    one = dict.fromkeys(names, share) | {"response_tokens": share, "pass_at": {"1": share, "4": share}}
    test = {"p": 0.01, "n_questions": 12, "only_first": 3, "only_second": 9}
    summary = {"model": "bundled:student", "task": "task", "split": "test", "questions": 20, "samples": 4, **one}
    summary |= {"greedy": False, "grading": "strict", "against": {"model": "bundled:expert", **one}}
    summary["comparison"] = {"difference": share, "wilcoxon": test, "mcnemar": test}
    summary |= {"warnings": ["Look at this. " * 12] * 9, "cost": COST}
    screen = on_screen()
    print_evaluation(Evaluation(summary, pl.DataFrame(), folder if has_folder else None), screen)
    lines = said(screen)
    assert len(lines) < LINES
    where = "they are in the report" if has_folder else "--json prints them"
    assert any(f"more warnings: {where}." in line for line in lines)


def test_a_list_of_names_says_how_many_it_leaves_out() -> None:
    assert list_names(["a"]) == "a"
    assert list_names(["a", "b"], "or") == "a or b"
    assert list_names(["a", "b", "c", "d"]) == "a, b, c and d"
    assert list_names(["a", "b", "c", "d", "e", "f"]) == "a, b, c and 3 more"
