import numpy as np
import polars as pl
import pytest
from plain_reference import aggregate, node_quantities
from scipy import stats

from hydrometer.alignment.choice import ObjectiveInfo, gather_evidence, merge_arms, rank_arms
from hydrometer.alignment.separation import Lead, draw_posterior, find_lead, separate_arms
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
    p, _, factor, *_ = separate_arms(np.array([0.06, 0.0]), deviations, 0.02, np.random.default_rng(0))
    assert p[0] == pytest.approx(stats.t.cdf(0.08 / error, 8), abs=0.01)
    assert p[1] == pytest.approx(stats.t.cdf((0.02 - 0.06) / error, 8), abs=0.01)
    factors = np.geomspace(1, 100, 2000)
    enough = factors[stats.t.cdf(0.06 * np.sqrt(factors) / error, 9 * factors - 1) >= 0.975]
    assert p[0] < 0.95
    assert factor == pytest.approx(enough[0], rel=0.08)


def at(estimate: list[float], error: float, needed: float = 0.95, own: int = 1) -> Lead:
    """Independent arms of one error, from many questions: `own` of the leader's teacher first, `no teacher` last."""
    rows = np.random.default_rng(1).normal(size=(400, len(estimate)))
    rows = np.linalg.qr(rows - rows.mean(0))[0] * error
    rows[:, -1] = 0.0
    return Lead(np.array(estimate), rows, 0.02, needed, np.arange(len(estimate)) < own)


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
    p, told, factor, *_ = separate_arms(np.array([0.501, 0.5, 0.0]), at([0.0, 0.0, 0.0], 0.002).deviations, 0.02, rng)
    assert (p[:2] > 0.99).all() and factor == 1.0
    assert told.tolist() == [False, False, True]


def test_correlated_arms_are_compared_jointly():
    shift = np.random.default_rng(2).normal(size=(20, 1)) * 0.05
    deviations = np.concatenate([shift, shift, np.zeros((20, 1))], axis=1)
    p, told, *_ = separate_arms(np.array([1.03, 1.0, 0.0]), deviations, 0.02, np.random.default_rng(0))
    # Their difference is certain although each is not: the second is never within 0.02 of the first.
    assert p.tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert told.tolist() == [False, True, True]


def test_no_probability_below_five_questions(make_tables):
    ranking = ranking_of(make_tables(questions=4))
    assert all(np.isnan(line.p_within_epsilon) for line in ranking.lines)
    assert np.isnan(ranking.factor)


def test_a_teacher_is_decided_by_its_best_arm_while_its_objectives_are_not() -> None:
    error, rng = 0.03, np.random.default_rng(0)
    gap = 1.2 * stats.t.ppf(0.975, 399) * error * np.sqrt(2)
    lead = at([0.501, 0.5, 0.501 - gap, 0.0], error, own=2)
    draws = draw_posterior(lead, rng)
    assert not draws.is_separated(lead) and draws.is_teacher_separated(lead)
    # P(max of two equal independent arms >= a third - epsilon), by integration over the third
    third = np.linspace(-8.0, 8.0, 4001)
    own = stats.t.cdf((third * error + 0.501 - gap - 0.02 - 0.501) / error, 399) ** 2
    by_hand = 1.0 - np.trapezoid(stats.t.pdf(third, 399) * own, third)
    assert draws.p_teacher(lead) == pytest.approx(by_hand, abs=0.005)
    # a rival of another teacher that is not told apart keeps the teacher open, whatever the probability
    near = at([0.501, 0.5, 0.501 - 0.8 * gap, 0.0], error, own=2)
    assert draws.p_teacher(near) > 0.95
    assert not draws.is_teacher_separated(near) and draws.is_teacher_separated(near, 2.0)


def test_the_price_of_the_teacher_is_below_that_of_the_arm_and_equal_to_it_for_one_objective() -> None:
    rows = at([0.0] * 4, 0.03).deviations
    estimate = np.array([0.5, 0.48, 0.43, 0.0])
    teachers = np.array([0, 0, 1, -1])
    both = separate_arms(estimate, rows, 0.02, np.random.default_rng(0), teachers=teachers)
    assert 1.0 < both.teacher_factor < both.factor
    least = (stats.norm.ppf(0.975) * 0.03 * np.sqrt(2) / 0.07) ** 2
    assert both.teacher_factor == pytest.approx(least, rel=0.05)
    alone = separate_arms(estimate, rows, 0.02, np.random.default_rng(0), teachers=np.array([0, 1, 2, -1]))
    assert alone.teacher_factor == alone.factor == both.factor
    assert alone.p_teacher == alone.p_within[0] < both.p_teacher


def test_of_two_equal_teachers_one_is_decided_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(5)
    runs, questions, found = 1500, 24, 0
    for _ in range(runs):
        own = rng.normal(size=(questions, 2, 2))  # teacher, objective
        drawn = (0.5 * own[..., :1] + 0.5 * own).reshape(questions, 4)
        estimate = np.append(drawn.mean(0), 0.0)
        centred = (drawn - drawn.mean(0)) / np.sqrt(questions * (questions - 1))
        deviations = np.append(centred, np.zeros((questions, 1)), axis=1)
        usable, lead = find_lead(estimate + 3.0 * (np.arange(5) < 4), deviations, 0.0, 0.95, np.array([0, 0, 1, 1, -1]))
        assert usable.all() and lead is not None
        found += lead.is_teacher_settled()
    assert stats.binomtest(found, runs, 0.05, alternative="greater").pvalue > 0.01, found / runs
    assert found > 0
