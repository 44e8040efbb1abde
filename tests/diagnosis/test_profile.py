"""Where the time goes: the clock of forward passes, and what a sitting spent by stage."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hydrometer
from hydrometer.cli.main import run_command
from hydrometer.runs.stopwatch import time_forward_passes

OPTIONS: dict[str, Any] = {
    "teacher": ["expert=bundled:expert"],
    "objective": ["reverse_kl"],
    "questions": 2,
    "rollouts": 6,
    "visits": 2,
    "min_visits": 2,
    "check": False,
}


class Slow(nn.Module):
    """Takes 10 milliseconds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return x


def test_the_clock_runs_in_forward_passes_only_and_once_for_a_shared_network() -> None:
    network = Slow()
    with time_forward_passes([network, network]) as watch:
        for _ in range(3):
            network(torch.zeros(1))
            time.sleep(0.02)
    assert watch.calls == 3
    assert 0.03 <= watch.seconds < 0.06 + 3 * 0.02
    network(torch.zeros(1))
    assert watch.calls == 3, "the hooks are gone"


def test_stages_add_up_to_what_the_run_cost_and_replayed_rounds_are_free(tmp_path: Path) -> None:
    first = hydrometer.diagnose(out=tmp_path / "run", **OPTIONS)
    assert {"sample", "score", "branch"} <= set(first.stages)
    for unit in ("rollouts", "generated_tokens", "scored_tokens"):
        assert sum(getattr(cost, unit) for cost in first.stages.values()) == first.summary["cost"][unit] > 0
    again = hydrometer.diagnose(out=tmp_path / "run", resume=True, **OPTIONS)
    assert again.summary["cost"]["rollouts"] == first.summary["cost"]["rollouts"]
    assert not any(cost.rollouts for cost in again.stages.values())


def test_profile_prints_a_line_per_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--teacher", "expert=bundled:expert", "--objective", "reverse_kl", "--no-check"]
    flags += ["--questions", "2", "--rollouts", "6", "--visits", "2", "--min-visits", "2"]
    assert run_command(["diagnose", *flags, "--out", str(tmp_path / "run"), "--profile"]) == 0
    printed = capsys.readouterr().out
    for name in ("on-policy rollouts", "scoring paths", "branches", "tables, summary and report", "forward passes"):
        assert name in printed


class Halved(nn.Module):
    """A network with a body, as transformers has them."""

    def __init__(self) -> None:
        super().__init__()
        self.base_model = Slow()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            raise ValueError("too long")
        return self.base_model(x)


def test_a_pass_of_the_body_counts_by_itself_and_once_inside_the_network() -> None:
    network = Halved()
    with time_forward_passes([network]) as watch:
        network(torch.zeros(1))
        assert watch.calls == 1
        network.base_model(torch.zeros(1))
        assert watch.calls == 2
        with pytest.raises(ValueError, match="too long"):
            network(torch.zeros(2))
        network(torch.zeros(1))
    assert watch.calls == 4, "also where a pass fails"
    assert watch.seconds >= 0.03
