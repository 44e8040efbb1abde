"""Who may be recommended: what following a teacher adds up to, and what it does to the ranking."""

import numpy as np
import polars as pl
import pytest
from test_choice import OBJECTIVES

from hydrometer.alignment.choice import Worth, gather_evidence, rank_arms
from hydrometer.alignment.gate import MOST_UNVISITED, Positions, unvisited_shares, weigh_teachers
from hydrometer.alignment.joint import TEACHERS, decisive_continuations, rank_continuations
from hydrometer.alignment.separation import separate_arms
from hydrometer.alignment.study import build_study
from hydrometer.alignment.wording import harm_sentences, withheld_sentence

KEYS = ("question_id", "rollout_id", "position")
HARM = Worth(-0.3, -0.5, -0.1, -0.25, -0.05)
UNPROVEN = Worth(-0.1, -0.4, 0.2, -0.05, -0.05)
GAIN = Worth(0.2, -0.1, 0.5, 0.21, -0.01)


def study_of(tables):
    return build_study("student", tables.nodes, tables.candidates, tables.teacher_scores, OBJECTIVES)


def positions_of(tables, success_rate=0.4):
    questions = tables.questions.with_columns(success_rate=pl.lit(success_rate))
    return Positions(tables.nodes, tables.candidates, tables.token_scores, questions)


def well_visited(make_tables, **options):
    """Tables in which every listed candidate is kept, so that what is not measured has a single candidate."""
    tables = make_tables(**options)
    return tables._replace(candidates=tables.candidates.with_columns(kept=pl.lit(value=True)))


def rank(tables, worths, **options):
    study = study_of(tables)
    evidence = gather_evidence(study.arms, study.scores, study.terms, study.labels)
    return rank_arms(evidence, epsilon=0.02, rng=np.random.default_rng(0), worths=worths, **options)


def worth_by_hand(tables, teacher, success_rate):
    """m A - (1 - m) V by a plain loop over the rows."""
    weights = {row[:3]: row[3] * row[4] for row in tables.nodes.select(*KEYS, "path_weight", "node_weight").iter_rows()}
    paths = tables.nodes.unique(["question_id", "rollout_id"])["path_weight"].sum()
    said = {
        row[:4]: row[4]
        for row in tables.teacher_scores.filter(teacher=teacher)
        .select(*KEYS, "token_id", "teacher_logprob")
        .iter_rows()
    }
    kept = {}
    for row in tables.candidates.filter("kept").iter_rows(named=True):
        key = tuple(row[name] for name in KEYS)
        q = np.exp(said[(*key, row["token_id"])])
        kept.setdefault(key, []).append((np.exp(row["student_logprob"]), q, row["success_rate"]))
    gaps = {
        row[:3]: row[3]
        for row in tables.token_scores.filter(teacher=teacher, objective="reverse_kl").select(*KEYS, "l2").iter_rows()
    }
    total, measured_gap = 0.0, 0.0
    for key, rows in kept.items():
        if len(rows) >= 2:
            p, q, s = np.array(rows).T
            total += weights[key] * (q @ s - q.sum() * (p @ s) / p.sum())
            measured_gap += weights[key] * gaps[key]
    m = measured_gap / sum(weights[key] * gap for key, gap in gaps.items())
    return m * total / paths, -(1.0 - m) * success_rate


@pytest.mark.parametrize("teacher", ["sage", "fool"])
def test_worth_is_the_path_sum_with_what_is_sure_as_harm(make_tables, teacher):
    tables = well_visited(make_tables, questions=8, visits=30)
    worth = weigh_teachers([study_of(tables)], positions_of(tables), confidence=0.95)[teacher]
    measured, harm = worth_by_hand(tables, teacher, 0.4)
    assert (worth.measured, worth.harm) == (pytest.approx(measured), pytest.approx(harm))
    assert worth.value == pytest.approx(measured + harm) and worth.low < worth.value < worth.high
    wider = weigh_teachers([study_of(tables)], positions_of(tables), confidence=0.99)[teacher]
    assert wider.low < worth.low and wider.high > worth.high


def test_worth_is_unknown_where_visits_or_positions_are_missing(make_tables):
    tables = well_visited(make_tables, questions=8)
    study = study_of(tables)
    assert unvisited_shares(study, positions_of(tables)) == {"sage": 0.0, "fool": 0.0}
    fewer = make_tables(questions=8)  # 15 % of the candidates have too few visits
    shares = unvisited_shares(study_of(fewer), positions_of(fewer))
    kept = fewer.candidates.filter("kept").group_by(KEYS).len().filter(pl.col("len") > 1)
    listed = fewer.candidates.group_by(KEYS).len().filter(pl.col("len") > 1).join(kept, on=KEYS, how="anti")
    mine = fewer.token_scores.filter(teacher="sage", objective="reverse_kl").join(fewer.nodes, on=KEYS)
    push = pl.col("l2") * pl.col("path_weight") * pl.col("node_weight")
    lacking = mine.join(listed, on=KEYS, how="semi").select(push.sum()).item()
    assert shares["sage"] == pytest.approx(lacking / mine.select(push.sum()).item()) and shares["sage"] > 0.0
    some = pl.when(pl.col("position") == 1).then(0.0).otherwise(pl.col("node_weight"))
    narrowed = tables._replace(nodes=tables.nodes.with_columns(node_weight=some))
    assert unvisited_shares(study, positions_of(narrowed)) == {"sage": 1.0, "fool": 1.0}
    assert weigh_teachers([study], positions_of(narrowed), confidence=0.95) == {}
    assert 0.0 < MOST_UNVISITED < 0.5


def test_harm_ranks_below_no_teacher_whatever_its_cosine(make_tables):
    tables = make_tables(questions=12, paths=3, visits=40, gains=(3.0, 1.5), noise=0.2)
    free = rank(tables, None)
    assert free.lines[0].arm is not None and free.lines[0].arm.teacher == "sage" and free.lines[-1].arm is None
    barred = rank(tables, {"sage": HARM, "fool": GAIN})
    assert [line.arm.teacher if line.arm else None for line in barred.lines] == ["fool", "fool", None, "sage", "sage"]
    assert barred.lines[3].score == free.lines[0].score > barred.lines[0].score
    assert [line.p_within_epsilon for line in barred.lines[3:]] == [0.0, 0.0]
    assert all(line.is_told_apart for line in barred.lines[3:]) and barred.p_teacher > 0.99
    assert barred.recommended is not None or barred.is_teacher_decided


def test_where_everyone_harms_no_teacher_is_recommended(make_tables):
    tables = make_tables(questions=12, paths=3, visits=40, gains=(3.0, 1.5), noise=0.2)
    ranking = rank(tables, {"sage": HARM, "fool": HARM})
    assert ranking.lines[0].arm is None and ranking.recommended is ranking.lines[0]
    assert ranking.lines[0].p_within_epsilon == 1.0


def test_a_leader_without_a_shown_gain_is_not_recommended(make_tables):
    tables = make_tables(questions=15, paths=3, visits=60, gains=(3.0, -3.0), noise=0.05)
    free, unknown = rank(tables, None, needed=0.9), rank(tables, {"sage": GAIN}, needed=0.9)
    assert free.is_teacher_decided and unknown.is_teacher_decided
    withheld = rank(tables, {"sage": UNPROVEN, "fool": HARM}, needed=0.9)
    assert withheld.lines[0].arm == free.lines[0].arm
    assert withheld.recommended is None and not withheld.is_teacher_decided
    assert withheld.more_tokens(1000) is withheld.more_tokens_for_teacher(1000) is None
    said = withheld_sentence(withheld, "student")
    assert "Nothing is recommended: sage with" in said and "-0.100 in success rate [-0.400, +0.200]" in said


def test_one_sentence_for_each_teacher_that_harms(make_tables):
    tables = make_tables(questions=12, paths=3, visits=40, gains=(3.0, -3.0), noise=0.2)
    ranking = rank(tables, {"sage": HARM, "fool": HARM})
    first, second = harm_sentences(ranking, "student")
    best = max(line.score for line in ranking.lines if line.arm and line.arm.teacher == "sage")
    assert first == (
        f"sage ranks below no teacher whatever its cosine (up to {best:+.3f}): along a response that the student "
        "continues its choices add up to -0.300 in success rate [-0.500, -0.100], to first order: -0.250 on measured "
        "candidates and -0.050 where the student is sure, which counts as harm."
    )
    assert second.startswith("fool ranks below no teacher whatever its cosine: ")
    assert "that fool continues its choices add up to -0.300" in harm_sentences(ranking, TEACHERS)[1]
    assert harm_sentences(rank(tables, {"sage": UNPROVEN, "fool": GAIN}), "student") == []


def test_an_excluded_arm_is_out_of_the_question():
    deviations = 0.01 * np.random.default_rng(1).standard_normal((20, 3))
    deviations[:, 2] = 0.0
    estimate = np.array([0.5, 0.4, 0.0])
    excluded = np.array([True, False, False])
    rng = np.random.default_rng(0)
    p, told, factor, *_ = separate_arms(estimate, deviations, 0.02, rng, is_excluded=excluded)
    assert p.tolist() == [0.0, 1.0, 0.0] and told.tolist() == [True, False, True] and factor == 1.0
    unscored = np.array([np.nan, 0.4, 0.0])
    p, told, *_ = separate_arms(unscored, deviations, 0.02, np.random.default_rng(0), is_excluded=excluded)
    assert p.tolist() == [0.0, 1.0, 0.0] and told[0]


def test_the_ranking_of_teachers_comes_first_and_decides(make_tables):
    tables = well_visited(make_tables, questions=9, visits=30)
    ahead = [frame.with_columns(continuation=pl.lit("sage")) for frame in (tables.nodes, tables.candidates)]
    both = tables._replace(
        nodes=pl.concat([tables.nodes, ahead[0]]), candidates=pl.concat([tables.candidates, ahead[1]])
    )
    studies = [
        build_study(name, both.nodes, both.candidates, both.teacher_scores, OBJECTIVES) for name in ("sage", "student")
    ]
    rankings = rank_continuations(studies, None, positions_of(both), epsilon=0.02, needed=0.95, seed=0)
    assert list(rankings) == [TEACHERS, "student"]
    worths = {
        name: {line.arm.teacher: line.worth for line in ranking.lines if line.arm} for name, ranking in rankings.items()
    }
    assert set(worths[TEACHERS]) == {"sage"} and set(worths["student"]) == {"sage", "fool"}
    assert worths[TEACHERS]["sage"] == worths["student"]["sage"]  # the same visits, whoever they are said to be by
    assert decisive_continuations(("student", "sage", "fool")) == ("sage", "fool")
    assert decisive_continuations(("student",)) == ("student",)


def test_a_teacher_that_is_looked_at_on_the_candidates_of_others_has_no_known_worth(make_tables):
    tables = well_visited(make_tables, questions=8, visits=30)
    positions = positions_of(tables)
    assert set(weigh_teachers([study_of(tables)], positions, confidence=0.95)) == {"sage", "fool"}
    found = weigh_teachers([study_of(tables)], positions._replace(unlisted={"fool"}), confidence=0.95)
    assert set(found) == {"sage"}
