"""A student that thinks before it answers: thoughts are kept in the rollout and never graded."""

from pathlib import Path

import numpy as np
import pytest

import hydrometer
from hydrometer.sampling import ScriptedModel
from hydrometer.types import Grades, Message, Question, Score

TOKENS = ("right", "wrong", "<think>", "</think>", "<eos>")


class Sincere:
    name = "sincere"

    def questions(self, split):
        return [Question(f"q{i}", "sincere", (Message("user", f"question {i}"),), "right") for i in range(6)]

    def verify(self, question, response):
        return Grades.same(Score(float("right" in response), "right" in response, bool(response.strip())))


class Thinker(ScriptedModel):
    """Thinks of the right answer, then says one of both; `opened`: its template opens the thought."""

    def __init__(self, share: float, *, opened: bool):
        def probs(prompt, response):
            steps = [0, 3, None, 4] if opened else [2, 0, 3, None, 4]
            step = steps[min(len(response), len(steps) - 1)]
            return np.array([share, 1 - share, 0.0, 0.0, 0.0]) if step is None else np.eye(5)[step]

        super().__init__(TOKENS, probs, name=f"thinker {share}")
        self.opened = opened

    def prompt_text(self, messages, *, assistant=""):
        return super().prompt_text(messages) + ("<think>\n" if self.opened else "") + assistant


@pytest.mark.parametrize("opened", [False, True])
def test_thoughts_are_kept_but_not_graded(opened: bool, tmp_path: Path) -> None:
    run = hydrometer.diagnose(
        out=tmp_path / "run",
        student=Thinker(0.4, opened=opened),
        teacher={"better": Thinker(0.8, opened=opened)},
        task=Sincere(),
        objective=["reverse_kl"],
        rollouts=40,
        visits=20,
        max_response_tokens=6,
    )
    rollouts = run.table("rollouts")
    assert all(text.count("</think>") == 1 for text in rollouts["text"])
    said = rollouts["text"].str.split("</think>").list.last() == "right"
    assert said.to_list() == rollouts["correct"].to_list()
    assert 0.2 < rollouts.filter(kind="base")["correct"].mean() < 0.6
    assert run.summary["ranking"][0]["teacher"] == "better"


def test_a_response_cut_off_in_its_thoughts_has_no_answer(tmp_path: Path) -> None:
    with pytest.raises(hydrometer.errors.UserError, match="All base rollouts are right, or all wrong"):
        hydrometer.diagnose(
            out=tmp_path / "run",
            student=Thinker(0.4, opened=True),
            teacher={"better": Thinker(0.8, opened=True)},
            task=Sincere(),
            objective=["reverse_kl"],
            max_response_tokens=1,
        )
