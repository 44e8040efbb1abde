"""Run folders that older versions wrote have their report, or a sentence that says what they lack.

`older_run` holds two questions of the bundled family, diagnosed by the version of 2026-11-22 07:36 (commit 113f6e6):

    hydrometer diagnose --questions 2 --rollouts 4 --visits 3 --min-visits 3 --max-response-tokens 40 \\
        --teacher expert=bundled:expert --teacher self+answer --objective reverse_kl
"""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from test_page import page_data, parse

from hydrometer.artifacts import TABLES
from hydrometer.errors import RunFolderError
from hydrometer.report import build_report, read_run

OLDER = Path(__file__).parent / "older_run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLDER, tmp_path / "run"))


def test_a_run_of_the_first_day_has_its_report(folder: Path) -> None:
    html = build_report(folder).read_text(encoding="utf-8")
    text = " ".join(" ".join(parse(html).text).split())
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["verdict"].removeprefix("Not separated yet: ") in text
    assert "“Training only where the cosine is positive” is not shown: another version wrote it" in text
    data = page_data(html)
    paths = [path for question in data["tokens"]["questions"] for path in question["paths"]]
    assert sum(len(path["nodes"]) for path in paths) == pl.read_parquet(folder / "nodes.parquet").height
    arms = {row[0] for row in data["figures"]["ranking"]["rows"]}
    assert {"expert, reverse_kl", "self+answer, reverse_kl", "no teacher"} <= arms


def test_what_newer_versions_record_is_null_there(folder: Path) -> None:
    stored = pl.read_parquet(folder / "teacher_scores.parquet")
    assert "reward_variance" not in stored.columns
    read = read_run(folder).teacher_scores
    assert set(TABLES["teacher_scores"]) <= set(read.columns)
    assert read["reward_variance"].null_count() == read.height == stored.height
    assert read.select(stored.columns).equals(stored)


def test_a_column_that_the_report_needs_is_named(folder: Path) -> None:
    path = folder / "nodes.parquet"
    pl.read_parquet(path).drop("path_weight", "eligible").write_parquet(path)
    with pytest.raises(RunFolderError, match=r"lacks the columns path_weight, eligible of the nodes table.*another"):
        build_report(folder)


def test_another_schema_is_named_with_the_one_that_is_read(folder: Path) -> None:
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(run | {"schema_version": 0}), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"has schema_version 0, this version reads 1\. Use the hydrometer"):
        build_report(folder)
