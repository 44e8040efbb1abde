"""What is drawn is what the tables say: bins, questions, rollouts through a candidate, the ranking and its looks."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from synthetic import make_summary, write_run

from hydrometer.report import RunFiles, read_run
from hydrometer.report.arms import build_arms
from hydrometer.report.binned import binned_figures, clustered_mean
from hydrometer.report.examples import Examples, shared_tokens
from hydrometer.report.figures import Figure
from hydrometer.report.paths import list_arms
from hydrometer.report.questions import build_questions
from hydrometer.report.ranking import looks_figure, ranking_figure


def as_rows(figure: Figure) -> list[dict[str, Any]]:
    return [dict(zip(figure.columns, row, strict=True)) for row in figure.rows]


def test_a_mean_of_equally_many_nodes_has_the_interval_of_a_plain_mean() -> None:
    values = np.array([0.1, 0.4, -0.2, 0.3, 0.5, 0.2])
    mean, low, high = clustered_mean(3.0 * values, np.full(6, 3.0))
    half = 2.5706 * values.std(ddof=1) / np.sqrt(6)  # t with 5 degrees of freedom
    assert mean == pytest.approx(values.mean())
    assert (low, high) == (pytest.approx(mean - half, abs=1e-4), pytest.approx(mean + half, abs=1e-4))
    assert clustered_mean(values[:4], np.ones(4))[1:] == (None, None)


def test_bins_hold_every_measured_node_once_and_their_own_means(run_files: RunFiles) -> None:
    depth = next(figure for figure in binned_figures(run_files) if figure.key == "depth")
    rows = [row for row in as_rows(depth) if row["by"] == "share of the response" and row["value of"] == "signal"]
    own = run_files.alignment.filter(teacher="expert", objective="reverse_kl")
    shown = [row for row in rows if (row["teacher"], row["objective"]) == ("expert", "reverse_kl")]
    assert sum(row["nodes"] for row in shown) == own.height
    first = own.filter(pl.col("depth_frac") < 0.2)
    assert shown[0]["value"] == pytest.approx(first["signal"].mean())
    assert shown[0]["x"] == pytest.approx(first["depth_frac"].mean())
    assert shown[0]["low"] is None, "three questions give no interval"


def test_bins_of_a_distance_hold_a_fifth_of_all_nodes(tmp_path: Path) -> None:
    write_run(tmp_path, questions=6, paths=2, tokens=20)
    files = read_run(tmp_path)
    distance = next(figure for figure in binned_figures(files) if figure.key == "distance")
    rows = [row for row in as_rows(distance) if row["by"].startswith("KL") and row["value of"] == "signal"]
    values = files.alignment["reverse_kl_nats"].to_numpy()
    for low, high in ((0.0, 0.2), (0.8, 1.0)):
        ends = np.quantile(values, [low, high])
        wanted = int(((values >= ends[0]) & ((values < ends[1]) | (high == 1.0))).sum())
        found = [row for row in rows if ends[0] <= row["x"] <= ends[1]]
        assert sum(row["nodes"] for row in found) == wanted
    assert any(row["low"] is not None and row["low"] < row["value"] < row["high"] for row in rows)


def test_a_question_has_the_pooled_cosine_of_its_own_nodes_and_the_span_between_teachers(run_files: RunFiles) -> None:
    arms = list_arms(run_files)
    found = build_questions(run_files, arms)
    row = next(row for row in found["rows"] if row["id"] == "q001")
    own = run_files.alignment.filter(question_id="q001")
    for (teacher, objective), value in zip(arms, row["cosines"], strict=True):
        arm = own.filter(teacher=teacher, objective=objective)
        size = np.sqrt((arm["ideal_norm"] ** 2).sum() * (arm["direction_norm"] ** 2).sum())
        if value is not None:
            assert value == pytest.approx(arm["inner_product"].sum() / size, rel=1e-2)
        else:
            assert size < 1e-9
    spans = []
    for _, node in own.filter(objective="reverse_kl").drop_nulls("cosine").group_by("rollout_id", "position"):
        if node.height > 1:
            spans.append(max(node["cosine"]) - min(node["cosine"]))
    place = found["objectives"].index("reverse_kl")
    assert row["disagreement"][place] == pytest.approx(np.mean(spans), rel=1e-2)
    measured = run_files.nodes.filter(pl.col("kept_candidates") >= 2, question_id="q001")
    assert row["measured"] == measured.height


def rollout(
    number: int, ids: list[int], *, forced: int = 0, correct: bool = True, kind: str = "base"
) -> dict[str, Any]:
    names = {"rollout_id": number, "kind": kind, "model": "student", "truncated": False}
    return names | {"token_ids": ids, "forced_tokens": forced, "correct": correct, "text": f"text {number}"}


def test_rollouts_through_a_candidate_follow_the_rule_of_the_visits() -> None:
    rollouts = [
        rollout(0, [1, 2, 3]),
        rollout(1, [1, 5, 3], correct=False),
        rollout(2, [1, 2, 4], forced=3, kind="branch"),  # forced past position 1: counts for position 2 only
        rollout(3, [9, 9]),
        rollout(4, [1, 2, 3], kind="path"),
        rollout(5, [1, 2, 3]) | {"model": "expert"},
    ]
    examples = Examples(rollouts, "student")
    found = examples.of_path([1, 2, 3], {0: [1, 9], 1: [2, 5], 2: [3, 4]})
    shown = {key: [examples.texts[place][0] for place in places] for key, places in found.items()}
    assert shown == {
        (0, 1): ["text 0", "text 1"],
        (0, 9): ["text 3"],
        (1, 2): ["text 0"],
        (1, 5): ["text 1"],
        (2, 3): ["text 0"],
        (2, 4): ["text 2"],
    }
    assert examples.texts[found[0, 1][1]][1:] == [False, "base", False]
    assert len(examples.texts) == 4, "each is stored once"
    examples.truncate(1)
    assert examples.of_path([1, 2, 3], {1: [2, 5]}) == {(1, 2): [0], (1, 5): [1]}


def test_no_more_than_two_rollouts_of_each_outcome_are_shown() -> None:
    examples = Examples([rollout(number, [1], correct=number % 3 > 0) for number in range(9)], "student")
    [places] = examples.of_path([1], {0: [1]}).values()
    assert [examples.texts[place][0] for place in places] == ["text 1", "text 2", "text 0", "text 3"]
    assert shared_tokens([1, 2, 3], [1, 2]) == 2
    assert shared_tokens([], [1]) == 0


def summary_of(files: RunFiles, **more: Any) -> dict[str, Any]:
    return {**files.summary, **more}


def test_the_ranking_shows_its_own_score_first_and_a_missing_interval_as_none(run_files: RunFiles) -> None:
    entries = [dict(entry) for entry in run_files.summary["ranking"]]
    entries[0]["interval"] = [0.1, 0.9]
    summary = summary_of(run_files, ranking=entries)
    rows = as_rows(ranking_figure(build_arms(summary), summary))
    own = [row for row in rows if row["metric"] == "Ranking score" and row["split"] == "all"]
    assert (own[0]["low"], own[0]["high"], own[0]["note"]) == (0.1, 0.9, None)
    second = next(row for row in own[1:] if row["arm"] != "no teacher")
    assert (second["low"], second["note"]) == (None, "no interval")
    assert {row["split"] for row in rows if row["metric"] == "Ranking score"} == {"all", "correct", "incorrect"}
    assert "probability of being within epsilon of the best: 0.970" in own[0]["hover"]
    best = next(row for row in own if row["arm"].endswith("expert, reverse_kl"))
    nodes = run_files.summary["arms"][1]["scores"]["all"]["pooled_cosine"]["n_nodes"]
    assert f"{nodes} measured nodes of its own, 3 questions" in best["hover"]
    assert "against no teacher: p = 0.03125" in best["hover"]
    tested = [row for row in rows if row["metric"] == "Pooled cosine" and row["arm"].endswith("expert, reverse_kl")]
    assert len(tested) == 3
    assert all("against no teacher: p = 0.03125, Holm 0.04" in row["hover"] for row in tested)
    assert not any("correct against incorrect" in row["hover"] for row in tested), "that test is of the mean cosine"
    mean = next(row for row in rows if row["metric"] == "Mean cosine" and row["arm"].endswith("expert, reverse_kl"))
    assert "correct against incorrect: p = 0.4375, Holm 1" in mean["hover"]


def test_a_ranking_by_outcomes_says_so_and_has_no_parts(run_files: RunFiles) -> None:
    summary = summary_of(run_files, ranked_by="outcomes")
    figure = ranking_figure(build_arms(summary), summary)
    assert figure.note.startswith("Arms are ranked by the outcomes of all scored responses")
    assert {row["split"] for row in as_rows(figure) if row["metric"] == "Ranking score"} == {"all"}


def test_looks_are_drawn_where_a_run_looked_more_than_once() -> None:
    look = {"generated_tokens": 9000, "leader": "expert with x", "score": 0.3, "needed": 0.98, "more_tokens": 20_000}
    looks = [
        look | {"questions": 8, "probability": 0.7, "is_decided": False},
        look | {"questions": 12, "probability": 0.99, "is_decided": True},
    ]
    figure = looks_figure({"looks": looks})
    assert figure is not None
    rows = as_rows(figure)
    assert [(row["questions"], row["value"]) for row in rows if row["series"].startswith("leader")] == [
        (8, 0.7),
        (12, 0.99),
    ]
    assert {row["value"] for row in rows if row["series"] == "needed to stop"} == {0.98}
    assert "about 20,000 more tokens" in rows[0]["hover"]
    assert "decided" in rows[-1]["hover"]
    assert "more tokens" not in rows[-1]["hover"]
    assert looks_figure({"looks": looks[:1]}) is looks_figure({}) is None
    assert "teacher was decided" not in figure.note
    still_open = [entry | {"is_decided": False, "teacher_decided_after": 8} for entry in looks]
    figure = looks_figure({"looks": still_open})
    assert figure is not None
    assert figure.note.endswith("Here the teacher was decided after 8 questions, its objective never was.")
    assert "not decided" not in as_rows(figure)[-1]["hover"]
    assert "12 questions, 9,000 tokens: teacher decided after 8 questions, objective" in as_rows(figure)[-1]["hover"]


def test_every_text_and_number_of_a_figure_is_harmless(tmp_path: Path) -> None:
    tables = write_run(tmp_path, questions=1, paths=1, tokens=8, teachers={"a\u202eb": 1.0})
    summary = make_summary(tables)
    told = ranking_figure(build_arms(summary), summary).describe()
    assert "\u202e" not in str(told)
    assert any("a⟨U+202E⟩b" in str(row[0]) for row in told["rows"])
    odd = Figure("k", "t", "n", {"alarms": [{"text": "x\u202e"}]}, ("a",), [[float("inf")], [0.123456], [True], [7]])
    assert odd.describe()["rows"] == [[None], [0.1235], [True], [7]]
    assert odd.describe()["chart"] == {"alarms": [{"text": "x⟨U+202E⟩"}]}


def test_an_instruction_that_all_prompts_begin_with_is_left_out_of_the_table(tmp_path: Path) -> None:
    tables = write_run(tmp_path, questions=3, paths=1, tokens=4)
    start = "Answer with a number, and nothing else. Question: "
    named = pl.lit(start) + pl.col("question_id") + pl.lit(" is it \u202e " + "word " * 60)
    files = read_run(tmp_path)._replace(questions=tables["questions"].with_columns(named.alias("prompt")))
    prompts = [row["prompt"] for row in build_questions(files, [])["rows"]]
    assert prompts[1].startswith("… q001 is it ⟨U+202E⟩ word")
    assert prompts[1].endswith(" …")
    assert len(prompts[1]) < 180
    assert build_questions(read_run(tmp_path), [])["rows"][1]["prompt"] == "… (q001)"
    unlike = read_run(tmp_path)._replace(
        questions=tables["questions"].with_columns(pl.col("question_id").alias("prompt"))
    )
    assert build_questions(unlike, [])["rows"][1]["prompt"] == "q001"
