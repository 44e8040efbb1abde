"""`probe --score-cache`: the same tables, and no model asked twice."""

from pathlib import Path
from typing import Any

import pytest

import hydrometer


@pytest.mark.parametrize("kind", ["pattern", "aggregation"])
def test_a_probe_finds_what_an_earlier_one_scored(kind: str, tmp_path: Path):
    asked: dict[str, Any] = {"questions": 2, "samples": 1, "max_response_tokens": 40, "demos": 2}
    if kind == "aggregation":
        asked["teacher"] = "self+answer"
    without = hydrometer.probe(kind, **asked)
    cold, warm = (hydrometer.probe(kind, score_cache=str(tmp_path / "cache"), **asked) for _ in range(2))
    for name, table in without.tables.items():
        assert table.equals(cold.tables[name])
        assert table.equals(warm.tables[name])
    cost = warm.summary["cost"]
    assert cost["cached_tokens"] == cost["scored_tokens"] > 0
    assert cold.summary["cost"]["cached_tokens"] < cost["scored_tokens"]
