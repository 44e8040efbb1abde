import numpy as np
import polars as pl
import pytest

from hydrometer.alignment import resampling
from hydrometer.alignment.choice import ObjectiveInfo
from hydrometer.alignment.contributions import SPLITS
from hydrometer.alignment.resampling import rollout_influences, these_questions_intervals
from hydrometer.alignment.study import build_study
from hydrometer.success.candidates import add_success

OBJECTIVES = {"reverse_kl": ObjectiveInfo("r")}
P = (0.5, 0.3)
Q = (0.2, 0.7)


def one_path(outcomes):
    """A path of two nodes with two candidates each; `outcomes[position][token]` lists (rollout, correct)."""
    log, rows, scores = [], [], []
    for position, tokens in enumerate(outcomes):
        for token, counted in enumerate(tokens):
            key = {"question_id": "q", "rollout_id": 9, "position": position, "token_id": token}
            log += [key | {"counted_rollout_id": rollout, "correct": correct} for rollout, correct in counted]
            rows.append(key | {"continuation": "student", "student_logprob": np.log(P[token]), "kept": True})
            scores.append(key | {"teacher": "t", "teacher_logprob": np.log(Q[token]), "field:reverse_kl": float(token)})
    node = [
        {"question_id": "q", "rollout_id": 9, "position": t, "continuation": "student", "path_correct": True}
        | {"path_weight": 1.0, "node_weight": 1.0}
        for t in range(len(outcomes))
    ]
    visit_log = pl.DataFrame(log)
    candidates = add_success(pl.DataFrame(rows), visit_log)
    return build_study("student", pl.DataFrame(node), candidates, pl.DataFrame(scores), OBJECTIVES), visit_log


def bernoulli(start, n, successes):
    return [(start + index, index < successes) for index in range(n)]


def test_spread_of_the_advantage_in_closed_form():
    study, log = one_path([[bernoulli(0, 10, 4), bernoulli(10, 5, 2)]])
    intervals = these_questions_intervals(study, log, np.random.default_rng(0), replicates=2000)
    low, high = intervals["mean_advantage"][:, 0, 0, 0]
    change = Q[0] / 0.9 - P[0] / 0.8  # the second candidate's weight changes by as much the other way
    expected = abs(change) * np.sqrt(0.4 * 0.6 / 9 + 0.4 * 0.6 / 4)
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.05)
    assert (high + low) / 2 == pytest.approx(float(study.scores.advantage[0, 0]))


def test_rollouts_counted_at_two_nodes_move_them_together():
    first = [bernoulli(0, 12, 6), bernoulli(20, 12, 6)]
    shared, log_shared = one_path([first, first])
    apart, log_apart = one_path([first, [bernoulli(40, 12, 6), bernoulli(60, 12, 6)]])
    widths = []
    for study, log in ((shared, log_shared), (apart, log_apart)):
        low, high = these_questions_intervals(study, log, np.random.default_rng(0), replicates=2000)["mean_advantage"][
            :, 0, 0, 0
        ]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.06)


def test_influences_have_the_unbiased_variance_and_leave_sure_candidates_alone():
    study, log = one_path([[bernoulli(0, 10, 4), bernoulli(10, 5, 5)]])
    square = np.asarray((rollout_influences(study.kept, log).full.toarray() ** 2).sum(1))
    assert square == pytest.approx([0.4 * 0.6 / 9, 0.0])


def test_a_log_of_other_rollouts_is_refused():
    study, log = one_path([[bernoulli(0, 10, 4), bernoulli(10, 5, 2)]])
    with pytest.raises(ValueError, match="visits"):
        rollout_influences(study.kept, log.head(14))


def test_intervals_do_not_depend_on_the_order_of_the_log():
    study, log = one_path([[bernoulli(0, 10, 4), bernoulli(10, 5, 2)]])
    first = these_questions_intervals(study, log, np.random.default_rng(3), replicates=50)
    again = these_questions_intervals(study, log.reverse(), np.random.default_rng(3), replicates=50)
    for name in first:
        assert np.array_equal(first[name], again[name], equal_nan=True)
    assert np.isnan(first["mean_cosine"][0, SPLITS.index("incorrect")]).all()


def test_many_rollouts_are_drawn_for_a_few_pairs_at_a_time(monkeypatch: pytest.MonkeyPatch):
    study, log = one_path([[bernoulli(0, 10, 4), bernoulli(10, 5, 2)]])
    whole = these_questions_intervals(study, log, np.random.default_rng(0), replicates=2000)
    monkeypatch.setattr(resampling, "CHUNK_NUMBERS", 3 * 15)
    held: list[int] = []
    inner = resampling.replicate_sums
    monkeypatch.setattr(resampling, "replicate_sums", lambda s, i, draws: held.append(draws.size) or inner(s, i, draws))
    parts = these_questions_intervals(study, log, np.random.default_rng(0), replicates=2000)
    assert max(held) == 3 * 15
    width, other = (np.diff(found["mean_advantage"], axis=0)[0, 0, 0, 0] for found in (whole, parts))
    assert other == pytest.approx(width, rel=0.1)
