"""Runs side by side: scores and interactions by loops, and what differs is told."""

import json
import math

import numpy as np
import polars as pl
import pytest
from plain_reference import aggregate, node_quantities
from scipy import stats

from hydrometer.alignment import compare_runs, complete_nodes
from hydrometer.errors import RunFolderError, UserError


def write_run(folder, tables, student="small", **changes):
    folder.mkdir()
    run = {
        "schema_version": 1,
        "kind": "diagnosis",
        "status": "done",
        "task": "t",
        "task_fingerprint": "f",
        "models": {"student": {"spec": student, "fingerprint": student}}
        | {name: {"spec": name, "fingerprint": name} for name in ("sage", "fool")},
        "teachers": {"sage": {"context": "answer"}, "fool": {"context": "none"}},
        "objectives": {"reverse_kl": "reverse_kl"},
        "config": {"candidate_threshold": 0.02, "min_visits": 4, "temperature": 1.0},
    }
    run |= {key: value for key, value in changes.items() if key != "config"}
    run["config"] |= changes.get("config", {})
    (folder / "run.json").write_text(json.dumps(run))
    complete_nodes(tables.nodes, tables.candidates).write_parquet(folder / "nodes.parquet")
    for name in ("candidates", "teacher_scores", "questions"):
        getattr(tables, name).write_parquet(folder / f"{name}.parquet")
    return folder


def test_scores_differences_and_interactions_by_loops(make_tables, tmp_path):
    both = [make_tables(objectives=("reverse_kl",), questions=9, visits=40, noise=0.1, seed=seed) for seed in (0, 1)]
    folders = [write_run(tmp_path / f"run{i}", tables, f"student{i}") for i, tables in enumerate(both)]
    found = compare_runs(folders)
    nodes = {
        (i, t): node_quantities(tables, "reverse_kl", t) for i, tables in enumerate(both) for t in ("fool", "sage")
    }

    def score(i, teacher, left=None):
        return aggregate([n for key, n in nodes[i, teacher].items() if key[0] != left])["pooled_cosine"]

    for i in (0, 1):
        for teacher in ("fool", "sage"):
            row = found.scores.row(
                by_predicate=(pl.col("student") == f"student{i}") & (pl.col("teacher") == teacher), named=True
            )
            assert row["value"] == pytest.approx(score(i, teacher))
    shifts = {row["teacher"]: row for row in found.differences.to_dicts()}
    assert shifts["sage"]["value"] == pytest.approx(score(1, "sage") - score(0, "sage"))
    (row,) = found.interactions.to_dicts()

    def interaction(left=None):
        return score(1, "fool", left) - score(1, "sage", left) - score(0, "fool", left) + score(0, "sage", left)

    assert (row["teacher"], row["against"]) == ("fool", "sage")
    assert row["value"] == pytest.approx(interaction())
    copies = [interaction(f"q{q:02d}") for q in range(9)]
    error = math.sqrt(8 / 9 * sum((copy - np.mean(copies)) ** 2 for copy in copies))
    assert row["n_questions"] == 9
    assert row["high"] - row["value"] == pytest.approx(stats.t.ppf(0.975, 8) * error)


def test_a_run_against_its_copy_differs_by_nothing(make_tables, tmp_path):
    tables = make_tables(objectives=("reverse_kl",))
    found = compare_runs([write_run(tmp_path / name, tables) for name in "ab"])
    assert found.differences["value"].abs().max() == 0.0
    assert found.interactions["value"].abs().max() < 1e-15


def test_what_differs_is_told(make_tables, tmp_path):
    tables = make_tables(objectives=("reverse_kl",))
    first = write_run(tmp_path / "first", tables)
    fewer = tables._replace(questions=tables.questions.head(4))
    other = write_run(
        tmp_path / "other", fewer, config={"min_visits": 8}, task="u", teachers={"sage": {"context": "none"}}
    )
    with pytest.raises(UserError) as caught:
        compare_runs([first, other])
    text = str(caught.value)
    assert len(text.splitlines()) <= 10
    for part in ("task: 'u' instead of 't'", "2 missing", "min_visits: 8 instead of 4", "teachers: fool, sage"):
        assert part in text


def test_served_teachers_may_differ_by_rounding_and_no_more(make_tables, tmp_path):
    tables = make_tables(objectives=("reverse_kl",))

    def served(number):
        fingerprint = f"vllm:abc:-1.000,{number}"
        models = {"student": "s", "sage": fingerprint, "fool": "f"}
        return {"models": {name: {"spec": name, "fingerprint": own} for name, own in models.items()}}

    first = write_run(tmp_path / "first", tables, **served("-2.000"))
    rounded = write_run(tmp_path / "rounded", tables, **served("-2.100"))
    assert compare_runs([first, rounded]).differences["value"].abs().max() == 0.0
    other = write_run(tmp_path / "other", tables, **served("-2.500"))
    with pytest.raises(UserError, match="teacher models"):
        compare_runs([first, other])


def test_what_is_no_pair_of_runs_is_refused(make_tables, tmp_path):
    first = write_run(tmp_path / "first", make_tables(objectives=("reverse_kl",)))
    for folders in ([], [first], [first, first]):
        with pytest.raises(UserError, match="two or more different run folders"):
            compare_runs(folders)
    unfinished = write_run(tmp_path / "unfinished", make_tables(objectives=("reverse_kl",)), status="interrupted")
    with pytest.raises(RunFolderError, match="status 'interrupted'"):
        compare_runs([first, unfinished])
    with pytest.raises(RunFolderError, match="missing"):
        compare_runs([first, tmp_path / "nowhere"])
