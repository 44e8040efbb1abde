"""The bundled student's sampled success rates against exact enumeration of its responses."""

import re

import numpy as np
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


def exact_rates(folder, task, *, bound, deepest_share):
    """(estimate, visits, exact low, exact high) of every kept candidate in the deeper part of each path."""
    student = load_model("bundled:student")
    candidates = folder.table("candidates").filter("kept")
    rollouts = folder.table("rollouts").filter(kind="path")
    paths = {(row["question_id"], row["rollout_id"]): row["token_ids"] for row in rollouts.iter_rows(named=True)}
    rows = []
    for question in task.found:
        ask = next_logprobs(student, student.render(question.prompt), Warp())
        limits = Limits(eos_ids=student.eos_ids, max_tokens=MAX_TOKENS, bound=bound)

        def verify(ids, truncated, question=question):
            return task.verify(question, student.decode(ids)).strict.correct

        known = {}
        for row in candidates.filter(question_id=question.question_id).iter_rows(named=True):
            path = paths[question.question_id, row["rollout_id"]]
            if row["position"] < (1 - deepest_share) * len(path):
                continue
            prefix = (*path[: row["position"]], row["token_id"])
            if prefix not in known:
                known[prefix] = enumerate_success(ask, verify, limits, prefix=prefix)
                rows.append((row["success_rate"], row["visits"], known[prefix].low, known[prefix].high))
    return np.array(rows)


def assert_agree(rows, *, at_least):
    """Estimates scatter around the exact rates as binomials do; where the exact rate is decided, so is the estimate."""
    rate, visits, low, high = rows.T
    middle = (low + high) / 2
    uncertain = (middle > 0.05) & (middle < 0.95)
    assert uncertain.sum() >= at_least
    z = (rate - middle)[uncertain] / np.sqrt(middle * (1 - middle) / visits)[uncertain]
    assert np.abs(z).max() < 4.5
    assert stats.chi2.ppf(0.0005, len(z)) < np.sum(z**2) < stats.chi2.ppf(0.9995, len(z))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    np.testing.assert_allclose(rate[~uncertain], middle[~uncertain], atol=0.3)


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
def test_sampled_success_rates_agree_with_enumeration_everywhere(tmp_path):
    task = ShortChains(8)
    result = diagnose(tmp_path, task, 100)
    assert_agree(exact_rates(result, task, bound=0.02, deepest_share=0.4), at_least=30)
