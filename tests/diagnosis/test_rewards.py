"""Rewards to go inside a run: against exact sums over the scripted world, loops over rollouts, and simulated noise."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scripted_worlds import EOS, LENGTH, TOKENS, build_planted, build_student, question_number, run_world, student_probs
from tiny_models import ids, tiny_model

from hydrometer.alignment.arrays import KeptNodes, TeacherFields, centre
from hydrometer.alignment.scores import compute_arm_scores
from hydrometer.models import Warp, warp_logprobs
from hydrometer.sampling import ScriptedModel
from hydrometer.teachers import TeacherView, response_log_ratios

KEYS = ["question_id", "rollout_id", "position", "token_id"]


def tilted_probs(prompt: tuple[int, ...], response: tuple[int, ...]) -> np.ndarray:
    weights = student_probs(prompt, response) * np.array([1.6, 0.7, 1.1, 0.8])
    return weights / weights.sum()


TEACHER = ScriptedModel(TOKENS, tilted_probs, name="tilted")


@cache
def exact_reward(prompt: tuple[int, ...], response: tuple[int, ...], token: int) -> float:
    """E[sum of log q - log p from this token on], the student continuing."""
    own = float(np.log(tilted_probs(prompt, response)[token] / student_probs(prompt, response)[token]))
    following = (*response, token)
    if token == EOS or len(following) == LENGTH:
        return own
    p = student_probs(prompt, following)
    return own + sum(p[k] * exact_reward(prompt, following, k) for k in range(len(TOKENS)) if p[k] > 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    return run_world(
        tmp_path_factory.mktemp("rewards") / "run",
        questions=8,
        rollouts=60,
        visits=40,
        min_visits=10,
        teacher={"tilted": TEACHER, "other": build_planted(1.0)},
        objective=["reverse_kl", "minillm"],
    )


def test_rewards_to_go_scatter_around_the_exact_ones_as_their_variance_says(run) -> None:
    paths = {
        (row["question_id"], row["rollout_id"]): row["token_ids"]
        for row in run.table("rollouts").filter(kind="path").iter_rows(named=True)
    }
    kept = run.table("candidates").filter("kept").select(KEYS)
    rows = run.table("teacher_scores").filter(teacher="tilted").join(kept, on=KEYS)
    z = []
    for row in rows.iter_rows(named=True):
        prompt = tuple(f"user: question {int(row['question_id'][1:])}".encode())
        prefix = tuple(paths[row["question_id"], row["rollout_id"]][: row["position"]])
        exact = exact_reward(prompt, prefix, row["token_id"])
        if row["reward_variance"] < 1e-12:
            assert row["reward_to_go"] == pytest.approx(exact, abs=1e-5)
        else:
            z.append((row["reward_to_go"] - exact) / np.sqrt(row["reward_variance"]))
    assert len(z) > 40
    assert np.abs(z).max() < 5
    assert 0.6 < np.std(z) < 1.6


def test_a_loop_over_the_counted_rollouts_gives_the_same_means_variances_and_covariances(run) -> None:
    rollouts = run.table("rollouts")
    paths = {(r["question_id"], r["rollout_id"]): r["token_ids"] for r in rollouts.iter_rows(named=True)}
    counted = rollouts.filter(pl.col("kind").is_in(["base", "branch"]))
    rows = run.table("teacher_scores").filter(teacher="tilted").sample(25, seed=1)
    compared = 0
    for row in rows.iter_rows(named=True):
        at = row["position"]
        start = [*paths[row["question_id"], row["rollout_id"]][:at], row["token_id"]]
        prompt = tuple(f"user: question {int(row['question_id'][1:])}".encode())
        assert question_number(prompt) == int(row["question_id"][1:])
        rewards, outcomes = [], []
        for other in counted.filter(question_id=row["question_id"]).iter_rows(named=True):
            y = other["token_ids"]
            if y[: at + 1] != start or other["forced_tokens"] > at + 1:
                continue
            terms = [
                np.log(tilted_probs(prompt, tuple(y[:t]))[y[t]] / student_probs(prompt, tuple(y[:t]))[y[t]])
                for t in range(at, len(y))
            ]
            rewards.append(sum(terms))
            outcomes.append(float(other["correct"]))
        if len(rewards) < 2:
            continue
        compared += 1
        assert row["reward_to_go"] == pytest.approx(np.mean(rewards), abs=1e-6)
        assert row["field:minillm"] == row["reward_to_go"]
        assert row["reward_variance"] == pytest.approx(np.var(rewards, ddof=1) / len(rewards), abs=1e-6)
        covariance = np.cov(rewards, outcomes)[0, 1] / len(rewards)
        assert row["reward_success_covariance"] == pytest.approx(covariance, abs=1e-6)
    assert compared > 15


def test_minillm_is_ranked_says_what_is_noisy_and_resumes_to_the_same_tables(run, tmp_path: Path) -> None:
    arms = {(a["teacher"], a["objective"]): a for a in run.summary["arms"]}
    entry = arms["tilted", "minillm"]["scores"]["all"]
    assert entry["pooled_cosine"]["value"] is not None
    assert entry["pooled_cosine"]["value"] != entry["pooled_cosine"]["plain"]
    assert entry["pooled_cosine"]["intervals"]["these_questions"] is None
    assert entry["pooled_cosine"]["interval_reasons"]["these_questions"] == "field_is_sampled"
    assert entry["mean_advantage"]["intervals"]["these_questions"] is not None
    assert arms["tilted", "reverse_kl"]["scores"]["all"]["pooled_cosine"]["intervals"]["these_questions"]
    assert any(text.startswith("minillm: its direction is estimated") for text in run.summary["warnings"])
    assert ("tilted", "minillm") in {(line["teacher"], line["objective"]) for line in run.summary["ranking"]}


def test_subtracting_the_noise_makes_product_and_square_unbiased() -> None:
    """Rewards and outcomes of one rollout are correlated; means over 6 rollouts, 20,000 worlds."""
    rng = np.random.default_rng(0)
    worlds, visits = 20_000, 6
    p = np.array([0.5, 0.3, 0.2])
    mass, w = np.array([0.9]), p
    success, reward = np.array([0.3, 0.6, 0.8]), np.array([0.5, -0.2, 0.1])
    outcome = rng.random((worlds, visits, 3)) < success
    drawn = reward + 1.5 * (outcome - success) + rng.normal(size=outcome.shape)
    s, r = outcome.mean(1), drawn.mean(1)
    variance = drawn.var(1, ddof=1) / visits
    covariance = ((drawn - r[:, None]) * (outcome - s[:, None])).sum(1) / (visits - 1) / visits
    ones = np.ones((worlds, 3))
    kept = KeptNodes(
        keys=pl.DataFrame({"node": np.arange(worlds)}),
        slots=pl.DataFrame(),
        is_candidate=ones.astype(bool),
        weights=ones * w,
        mass=np.repeat(mass, worlds),
        visits=ones * visits,
        rates=s,
        rates_a=s,
        rates_b=s,
        variances=s * (1 - s) / (visits - 1),
    )
    fields = TeacherFields(
        teachers=("t",),
        objectives=("minillm",),
        is_scored=np.ones((1, worlds), dtype=bool),
        logprobs=np.log(ones * w)[None],
        fields=r[None, None],
        variances=variance[None, None],
        covariances=covariance[None, None],
    )
    scores = compute_arm_scores(kept, fields)
    g, d = (centre(w[None], mass, values[None])[0] for values in (success, reward))
    for found, truth in (
        (scores.inner_product - scores.inner_noise, g @ d),
        (scores.direction_norm**2 - scores.direction_noise, d @ d),
    ):
        error = found.std() / np.sqrt(worlds)
        assert abs(found.mean() - truth) < 4 * error
    assert abs(scores.inner_product.mean() - g @ d) > 10 * scores.inner_product.std() / np.sqrt(worlds)


@pytest.mark.parametrize("warp", [Warp(), Warp(0.7, 1.0), Warp(1.0, 0.9)], ids=str)
def test_many_responses_at_a_time_equal_one_by_one(warp: Warp) -> None:
    student, teacher = tiny_model(), tiny_model(seed=1)
    responses = [ids("a b c.|"), ids("b"), ids("c c a b a."), ids("a b c.|")]
    views = [TeacherView("t", teacher, ids("another prompt"))]
    found = response_log_ratios(student, ids("add up"), views, responses, warp)
    for response, ratios in zip(responses, found, strict=True):
        q = own_logprobs(teacher, ids("another prompt"), response, warp._replace(top_p=1.0))
        p = own_logprobs(student, ids("add up"), response, warp)
        np.testing.assert_allclose(ratios[0], q - np.where(np.isfinite(p), p, np.nan), atol=2e-5)
        assert ratios.shape == (1, len(response))


def own_logprobs(model, prompt, response, warp):
    logits = torch.cat([chunk.logits for chunk in model.score(prompt, response)]).double()
    return np.array([float(row[token]) for row, token in zip(warp_logprobs(logits, warp), response, strict=True)])


def test_the_student_against_itself_has_no_reward(tmp_path: Path) -> None:
    run = run_world(
        tmp_path / "run", questions=6, rollouts=20, visits=6, min_visits=6, teacher={"copy": build_student()},
        objective=["minillm"],
    )  # fmt: skip
    assert run.table("teacher_scores")["reward_to_go"].drop_nulls().abs().max() < 1e-9
    assert run.table("alignment")["reason"].unique().sort().to_list() in (
        ["no_direction"],
        ["equal_success_rates", "no_direction"],
    )
