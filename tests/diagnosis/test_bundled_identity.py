"""The performance difference on the bundled family: the teacher that is right 99 times in 100, where nothing can be
repaired."""

from pathlib import Path

import pytest

import hydrometer


@pytest.mark.slow
def test_what_is_measured_where_the_expert_continues_accounts_for_its_lead(tmp_path: Path) -> None:
    run = hydrometer.diagnose(
        out=tmp_path / "run",
        task="bundled:chain-strict",
        teacher=["expert=bundled:expert"],
        objective=["reverse_kl"],
        continuation="teacher",
        questions=8,
        paths=4,
        visits=8,
        min_visits=8,
        check=False,
    )
    [entry] = run.summary["values"]
    low, high = entry["difference"]["interval"]
    assert low > 0.2
    at_least, at_most = entry["bounds_interval"]
    assert at_least < high
    assert at_most > low
    assert entry["holds"]
    share = entry["measured_share"]
    assert 0.6 < share["value"] < 1.4
    assert share["interval"][0] > 0.3
    ranking = [line["teacher"] for line in run.summary["ranking"]]
    assert ranking == ["expert", "no teacher"]
