import numpy as np
import polars as pl
import pytest
from plain_reference import aggregate, node_quantities
from scipy import stats

from hydrometer.alignment.choice import ObjectiveInfo, gather_evidence, merge_arms, rank_arms
from hydrometer.alignment.separation import Lead, draw_posterior, separate_arms
from hydrometer.alignment.study import build_study

OBJECTIVES = {"reverse_kl": ObjectiveInfo("r"), "forward_kl": ObjectiveInfo("f")}


def ranking_of(tables, objectives=OBJECTIVES, epsilon=0.02):
    study = build_study("student", tables.nodes, tables.candidates, tables.teacher_scores, objectives)
    rng = np.random.default_rng(0)
    evidence = gather_evidence(study.arms, study.scores, study.terms, study.labels)
    return rank_arms(evidence, epsilon=epsilon, rng=rng)


def test_identical_directions_are_one_arm_with_several_names():
    objectives = {
        "reverse_kl": ObjectiveInfo("r"),
        "dr_grpo": ObjectiveInfo("s", reference=True),
        "k2": ObjectiveInfo("r"),
        "forward_kl": ObjectiveInfo("f"),
        "sampled_token": ObjectiveInfo("r"),
    }
    arms = merge_arms(("a", "b"), objectives)
    assert [(arm.teacher, arm.objective, arm.aliases) for arm in arms[:3]] == [
        ("a", "reverse_kl", ("k2", "sampled_token")),
        ("a", "dr_grpo", ()),
        ("a", "forward_kl", ()),
    ]
    assert [arm.reference for arm in arms] == [False, True, False] * 2
    assert arms[5].place == (1, 3)


def test_planted_teachers_rank_on_their_side_of_no_teacher(make_tables):
    ranking = ranking_of(make_tables(questions=12, paths=3, visits=40, gains=(3.0, -3.0), noise=0.2))
    order = [line.arm.teacher if line.arm else "no teacher" for line in ranking.lines]
    assert order == ["sage", "sage", "no teacher", "fool", "fool"]
    assert ranking.lines[2].score == 0.0
    assert ranking.lines[0].p_within_epsilon > 0.7 and ranking.lines[-1].p_within_epsilon < 1e-3


def test_scores_use_only_the_nodes_that_all_arms_share(make_tables):
    tables = make_tables(questions=7, seed=6)
    skipped = (pl.col("teacher") == "fool") & (pl.col("question_id") == "q03")
    tables = tables._replace(teacher_scores=tables.teacher_scores.filter(~skipped))
    ranking = ranking_of(tables)
    everything = node_quantities(tables, "reverse_kl", "sage")
    shared = [node for key, node in everything.items() if key[0] != "q03"]
    assert (ranking.n_nodes, ranking.lost_nodes) == (len(shared), len(everything) - len(shared))
    assert (ranking.n_questions, ranking.lost_questions) == (6, 1)
    score = next(line.score for line in ranking.lines if line.arm and line.arm[:2] == ("sage", "reverse_kl"))
    assert score == pytest.approx(aggregate(shared)["pooled_cosine"])


def test_references_are_never_ranked(make_tables):
    ranking = ranking_of(make_tables(), {**OBJECTIVES, "forward_kl": ObjectiveInfo("f", reference=True)})
    assert {line.arm.objective for line in ranking.lines if line.arm} == {"reverse_kl"}


def test_a_teacher_without_nodes_does_not_empty_the_ranking(make_tables):
    tables = make_tables()
    scores = tables.teacher_scores
    elsewhere = scores.filter(teacher="sage").with_columns(question_id=pl.lit("elsewhere"))
    ranking = ranking_of(tables._replace(teacher_scores=scores.filter(teacher="fool").vstack(elsewhere)))
    assert {arm.teacher for arm in ranking.unranked} == {"sage"}
    assert {line.arm.teacher for line in ranking.lines if line.arm} == {"fool"}
    assert ranking.n_nodes > 0


def test_probability_within_epsilon_in_closed_form():
    deviations = np.zeros((9, 2))
    deviations[:, 0] = np.random.default_rng(2).normal(size=9) * 0.03
    error = np.sqrt((deviations[:, 0] ** 2).sum())
    p, _, factor = separate_arms(np.array([0.06, 0.0]), deviations, 0.02, np.random.default_rng(0))
    assert p[0] == pytest.approx(stats.t.cdf(0.08 / error, 8), abs=0.01)
    assert p[1] == pytest.approx(stats.t.cdf((0.02 - 0.06) / error, 8), abs=0.01)
    factors = np.geomspace(1, 100, 2000)
    enough = factors[stats.t.cdf(0.06 * np.sqrt(factors) / error, 9 * factors - 1) >= 0.975]
    assert p[0] < 0.95
    assert factor == pytest.approx(enough[0], rel=0.08)


def at(estimate: list[float], error: float, needed: float = 0.95) -> Lead:
    """Independent arms of one error, from many questions; the last one is `no teacher`."""
    rows = np.random.default_rng(1).normal(size=(400, len(estimate)))
    rows = np.linalg.qr(rows - rows.mean(0))[0] * error
    rows[:, -1] = 0.0
    return Lead(np.array(estimate), rows, 0.02, needed)


def is_separated(lead: Lead, rng: np.random.Generator) -> bool:
    return draw_posterior(lead, rng).is_separated(lead)


def test_a_leader_has_to_beat_or_equal_every_other_arm() -> None:
    rng = np.random.default_rng(0)
    least = stats.t.ppf(0.975, 399) * 0.03 * np.sqrt(2)  # of the difference of two independent arms
    # epsilon would take a smaller gap for enough: the probability of being within it is above 0.95 before that
    assert stats.t.cdf((0.95 * least + 0.02) / (0.03 * np.sqrt(2)), 399) > 0.975
    assert not is_separated(at([0.5 + 0.95 * least, 0.5, 0.0], 0.03), rng)
    assert is_separated(at([0.5 + 1.05 * least, 0.5, 0.0], 0.03), rng)
    assert not is_separated(at([0.5 + 1.05 * least, 0.5, 0.0], 0.03, needed=0.99), rng)
    # where epsilon is far above the error, either of two arms will do, and they stay untold
    p, told, factor = separate_arms(np.array([0.501, 0.5, 0.0]), at([0.0, 0.0, 0.0], 0.002).deviations, 0.02, rng)
    assert (p[:2] > 0.99).all() and factor == 1.0
    assert told.tolist() == [False, False, True]


def test_correlated_arms_are_compared_jointly():
    shift = np.random.default_rng(2).normal(size=(20, 1)) * 0.05
    deviations = np.concatenate([shift, shift, np.zeros((20, 1))], axis=1)
    p, told, _ = separate_arms(np.array([1.03, 1.0, 0.0]), deviations, 0.02, np.random.default_rng(0))
    # Their difference is certain although each is not: the second is never within 0.02 of the first.
    assert p.tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert told.tolist() == [False, True, True]


def test_no_probability_below_five_questions(make_tables):
    ranking = ranking_of(make_tables(questions=4))
    assert all(np.isnan(line.p_within_epsilon) for line in ranking.lines)
    assert np.isnan(ranking.factor)
