"""What a plan counts, and what is known of teachers where only references are asked for."""

from pathlib import Path

import pytest
import torch
from scripted_worlds import TINY, TOKENS, LetterTask, build_planted, build_student, run_world, student_probs

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.plan import plan_run
from hydrometer.diagnosis.setup import build_instruments
from hydrometer.sampling import ScriptedModel

OPTIONS = {"questions": 3, "rollouts": 10, "paths": 2, "demos": 5, "allocation": "on_policy", "min_visits": 2}


@pytest.mark.parametrize(("context", "extra"), [("answer", 0), ("correct_demo", 3 * 5)])
@pytest.mark.parametrize("pilot", [0, 7])
def test_a_plan_counts_demonstrations_and_pilot_rollouts_only_where_they_are_drawn(
    context: str, extra: int, pilot: int
) -> None:
    config = DiagnoseConfig(**OPTIONS, student="s", teacher=(f"self+{context}",), task="letters", pilot=pilot)
    instruments = build_instruments(config, student=build_student(), task=LetterTask())
    assert plan_run(instruments).rollouts == 3 * (10 + 2 + pilot) + extra


def test_a_run_leaves_the_callers_threads_alone(tmp_path: Path) -> None:
    seen = []

    class Watched(ScriptedModel):
        def score(self, prompt_ids, response_ids):
            seen.append(torch.get_num_threads())
            return super().score(prompt_ids, response_ids)

    teacher = {"t": Watched(TOKENS, student_probs, name="watched")}
    before = torch.get_num_threads()
    run_world(tmp_path / "run", **TINY, teacher=teacher, threads=before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_references_alone_are_never_ranked_and_still_show_how_teachers_differ(tmp_path: Path) -> None:
    options = {"questions": 6, "rollouts": 30, "visits": 8, "min_visits": 8}
    both = run_world(
        tmp_path / "both", **options, teacher={"t": build_planted(1.0)}, objective=["reverse_kl", "dr_grpo"]
    )
    alone = run_world(tmp_path / "alone", **options, teacher={"t": build_planted(1.0)}, objective=["dr_grpo"])
    assert "all objectives of this run are references" in alone.summary["verdict"]
    rows = both.table("alignment").sort("objective", "question_id", "rollout_id", "position")
    divergences = ["reverse_kl_nats", "l2", "distribution_cosine"]
    reference, other = (rows.filter(objective=name).select(divergences) for name in ("dr_grpo", "reverse_kl"))
    assert reference.height > 10
    assert reference.equals(other)
    assert reference.null_count().sum_horizontal().item() == 0
    assert rows.filter(objective="dr_grpo")["direction_share"].null_count() == reference.height
    shares = {arm["objective"]: arm["measured_share"] for arm in both.summary["arms"]}
    assert shares["dr_grpo"] is None
    assert 0 < shares["reverse_kl"] <= 1
