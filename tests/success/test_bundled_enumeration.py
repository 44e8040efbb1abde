"""The bundled student's sampled success rates against exact enumeration of its responses."""

import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

import hydrometer
from hydrometer.models import Warp
from hydrometer.models.transformers_model import load_model
from hydrometer.sampling.exact import next_logprobs
from hydrometer.success.enumeration import Limits, enumerate_success
from hydrometer.tasks.chain import ChainTask

MAX_TOKENS = 96


class ShortChains:
    """The two-step questions of the bundled task: short enough to enumerate from their middle."""

    name = "two-step chains"

    def __init__(self, count):
        self.chain = ChainTask()
        found = [q for q in self.chain.questions("diagnose") if len(re.findall(r"[-+*]\d", q.prompt[0].content)) == 2]
        self.found = found[:count]

    def questions(self, split):
        return self.found

    def verify(self, question, response):
        return self.chain.verify(question, response)


def exact_rates(folder, task, *, bound, count):
    """(estimate, visits, exact low, exact high) of the kept candidates nearest to the end that are not decided yet.

    Chosen by their estimates, so that only those well inside (0.05, 0.95) are a fair sample.
    """
    student = load_model("bundled:student")
    rollouts = folder.table("rollouts").filter(kind="path")
    paths = {(row["question_id"], row["rollout_id"]): row["token_ids"] for row in rollouts.iter_rows(named=True)}
    questions = {question.question_id: question for question in task.found}
    undecided = folder.table("candidates").filter("kept", pl.col("success_rate").is_between(0.05, 0.95))
    chosen = sorted(
        undecided.iter_rows(named=True),
        key=lambda row: len(paths[row["question_id"], row["rollout_id"]]) - row["position"],
    )
    known = {}
    for row in chosen[:count]:
        question = questions[row["question_id"]]
        ask = next_logprobs(student, student.render(question.prompt), Warp())
        limits = Limits(eos_ids=student.eos_ids, max_tokens=MAX_TOKENS, bound=bound)

        def verify(ids, truncated, question=question):
            return task.verify(question, student.decode(ids)).strict.correct

        prefix = (*paths[row["question_id"], row["rollout_id"]][: row["position"]], row["token_id"])
        if (question.question_id, prefix) not in known:
            exact = enumerate_success(ask, verify, limits, prefix=prefix)
            known[question.question_id, prefix] = (row["success_rate"], row["visits"], exact.low, exact.high)
    return np.array(list(known.values()))


def assert_agree(rows, *, at_least):
    """Estimates scatter around the exact rates as binomials do."""
    rate, visits, low, high = rows.T
    middle = (low + high) / 2
    fair = (middle > 0.12) & (middle < 0.88)
    assert fair.sum() >= at_least
    z = (rate - middle)[fair] / np.sqrt(middle * (1 - middle) / visits)[fair]
    assert np.abs(z).max() < 4.5
    assert stats.chi2.ppf(0.0005, len(z)) < np.sum(z**2) < stats.chi2.ppf(0.9995, len(z))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert np.abs(rate - middle).max() < 0.25


def diagnose(tmp_path, task, visits):
    return hydrometer.diagnose(
        out=tmp_path / "run",
        teacher=["self+empty:answer"],
        task=task,
        objective=["reverse_kl"],
        rollouts=visits,
        visits=visits,
        min_visits=visits,
        max_response_tokens=MAX_TOKENS,
    )


@pytest.mark.slow
def test_sampled_success_rates_agree_with_enumeration(tmp_path):
    task = ShortChains(8)
    result = diagnose(tmp_path, task, 100)
    assert_agree(exact_rates(result, task, bound=0.02, count=30), at_least=10)
