import json

import numpy as np
import polars as pl
import pytest

from hydrometer.alignment import ObjectiveInfo, Privilege, complete_nodes, compute_alignment, summarise
from hydrometer.alignment.advice import advise

OBJECTIVES = {
    "reverse_kl": ObjectiveInfo("r"),
    "k2": ObjectiveInfo("r"),
    "forward_kl": ObjectiveInfo("f"),
}


def summary_of(tables, controls=None, **options):
    names = [name.removeprefix("field:") for name in tables.teacher_scores.columns if name.startswith("field:")]
    nodes = complete_nodes(tables.nodes, tables.candidates)
    return summarise(
        nodes=nodes,
        candidates=tables.candidates,
        teacher_scores=tables.teacher_scores,
        token_scores=tables.token_scores,
        alignment=compute_alignment(
            nodes, tables.candidates, tables.teacher_scores, tables.token_scores, objectives=names
        ),
        questions=tables.questions,
        visit_log=None,
        objectives={name: OBJECTIVES[name] for name in names},
        controls=controls or {},
        cost={"generated_tokens": 1000},
        **options,
    )


def as_json(summary):
    return json.dumps(summary, allow_nan=False)


def test_summary_is_finite_complete_and_reproducible(make_tables):
    tables = make_tables(objectives=("reverse_kl", "k2", "forward_kl"))
    summary = summary_of(tables, controls={"sage": "fool"}, warnings=["from the caller"])
    assert as_json(summary) == as_json(summary_of(tables, controls={"sage": "fool"}, warnings=["from the caller"]))
    assert summary["warnings"][0] == "from the caller"
    arms = {(arm["teacher"], arm["objective"]): arm for arm in summary["arms"]}
    assert set(arms) == {(t, o) for t in ("sage", "fool") for o in ("reverse_kl", "forward_kl")}
    assert arms["sage", "reverse_kl"]["aliases"] == ["k2"]
    assert 0 < arms["sage", "reverse_kl"]["measured_share"] < 1
    for arm in summary["arms"]:
        for split in arm["scores"].values():
            assert list(split) == [
                *("mean_cosine", "weighted_cosine", "fraction_positive"),
                *("mean_advantage", "mean_signal", "pooled_cosine"),
            ]
            for entry in split.values():
                assert (entry["value"] is None) == (entry["reason"] is not None)
                for kind, interval in entry["intervals"].items():
                    assert (interval is None) == (entry["interval_reasons"][kind] is not None)
                if entry["intervals"]["questions"]:
                    low, high = entry["intervals"]["questions"]
                    assert low <= entry["value"] <= high


def test_row_order_changes_nothing_at_all(make_tables):
    tables = make_tables()
    shuffled = type(tables)(*(frame.sample(fraction=1.0, shuffle=True, seed=9) for frame in tables))
    assert as_json(summary_of(tables)) == as_json(summary_of(shuffled))


def test_measured_share_by_hand(make_tables):
    tables = make_tables(questions=1, paths=1, positions=4, seed=12)
    kept = tables.candidates.filter("kept").group_by("position").len().filter(pl.col("len") > 1)["position"]
    square = tables.token_scores.filter(teacher="sage", objective="reverse_kl")
    weighted = square.join(tables.nodes.select("position", "node_weight"), on="position").filter(
        pl.col("position").is_in(kept.implode())
    )
    seen = (weighted["full_norm_squared"] * weighted["node_weight"]).sum()
    arm = next(a for a in summary_of(tables)["arms"] if (a["teacher"], a["objective"]) == ("sage", "reverse_kl"))
    assert arm["measured_share"] == pytest.approx(seen / square["full_norm_squared"].sum())


def test_a_clear_teacher_is_recommended_and_the_limit_is_named(make_tables):
    tables = make_tables(questions=15, paths=3, visits=60, gains=(3.0, -3.0), noise=0.05)
    summary = summary_of(tables, epsilon=0.1)
    assert summary["recommendation"]["teacher"] == "sage"
    assert summary["recommendation"]["probability"] >= 0.95
    assert summary["more_tokens"] is None
    assert "does not look ahead" in summary["recommendation"]["sentence"]


def test_a_leader_that_is_told_the_answer_is_warned_of(make_tables):
    tables = make_tables(questions=15, paths=3, visits=60, gains=(3.0, -3.0), noise=0.05)
    told = {"sage": Privilege("answer", "self+aggregate:answer"), "fool": Privilege("correct_demo", None)}
    [warning] = [text for text in summary_of(tables, privileged=told)["warnings"] if "one question" in text]
    assert warning.startswith("sage leads with a context of the one question at hand (answer).")
    assert warning.endswith("--teacher self+aggregate:answer --continuation both.")
    assert summary_of(tables, privileged=told)["told"] == [warning] and summary_of(tables)["told"] == []
    told["sage"] = Privilege("answer", None)  # its aggregate is in the run, or it has none
    [warning] = [text for text in summary_of(tables, privileged=told)["warnings"] if "one question" in text]
    assert "--continuation" not in warning
    assert not any("one question" in text for text in summary_of(tables)["warnings"])


def test_a_teacher_that_destroys_what_the_student_is_sure_of_ranks_last_and_is_told(make_tables):
    """Only its measured candidates look right: most of |q - p| is where the student has no other candidate."""
    tables = make_tables(questions=15, paths=3, visits=60, gains=(3.0, 2.0), noise=0.05)
    all_kept = tables.candidates.with_columns(kept=pl.lit(value=True))
    keys = ["question_id", "rollout_id", "position"]
    single = all_kept.group_by(keys).len().filter(len=1).select(*keys, single=pl.lit(value=True))
    destroyed = pl.when(pl.col("single") & (pl.col("teacher") == "sage")).then(50.0).otherwise(pl.col("l2"))
    tokens = tables.token_scores.join(single, on=keys, how="left", maintain_order="left").with_columns(l2=destroyed)
    sure = tables._replace(
        candidates=all_kept,
        token_scores=tokens.drop("single"),
        questions=tables.questions.with_columns(success_rate=pl.lit(0.6)),
    )
    summary = summary_of(sure)
    order = [line["teacher"] for line in summary["ranking"]]
    assert order == ["fool", "fool", "no teacher", "sage", "sage"]
    last = summary["ranking"][-1]
    assert last["is_harm"] and last["score"] > 0.0 and last["worth"]["counted_as_harm"] < -0.5
    assert last["worth"]["value"] == pytest.approx(last["worth"]["measured"] + last["worth"]["counted_as_harm"])
    [sentence] = summary["harms"]
    assert sentence.startswith("sage ranks below no teacher whatever its cosine (up to +0.")
    assert summary["leading_teacher"]["teacher"] == "fool"


def test_harmful_teachers_lose_to_no_teacher(make_tables):
    summary = summary_of(make_tables(questions=15, paths=3, visits=60, gains=(-3.0, -2.0), noise=0.05))
    assert summary["recommendation"]["teacher"] == "no teacher"
    assert next(line["teacher"] for line in summary["ranking"]) == "no teacher"


def test_equal_teachers_are_not_separated_and_the_price_is_named(make_tables):
    summary = summary_of(make_tables(questions=6, gains=(0.0, 0.0), noise=0.5), epsilon=0.001)
    assert summary["recommendation"] is None
    assert summary["more_tokens"] > 0
    assert f"{summary['more_tokens']:,}" in summary["verdict"]


def test_a_teacher_is_decided_where_only_its_objective_is_not(make_tables):
    tables = make_tables(questions=8, visits=30, gains=(2.0, -2.0), noise=0.3, seed=1)
    summary = summary_of(tables, epsilon=0.0001)
    front = [(line["teacher"], line["objective"]) for line in summary["ranking"][:2]]
    assert {teacher for teacher, _ in front} == {"sage"}
    leading = summary["leading_teacher"]
    assert summary["recommendation"] is None and leading["is_decided"]
    assert (leading["teacher"], leading["objectives"]) == ("sage", [objective for _, objective in front])
    assert leading["probability"] >= 0.95 > max(line["p_within_epsilon"] for line in summary["ranking"])
    assert leading["more_tokens"] is None and summary["more_tokens"] > 0
    assert "Teacher decided, objective still open: the best arm of sage" in summary["verdict"]
    assert f"{summary['more_tokens']:,} more generated tokens" in summary["verdict"]
    looked = summary_of(tables, epsilon=0.0001, teacher_decided_after=5)
    assert looked["verdict"].startswith("Teacher decided after 5 questions, objective still open: the best arm of sage")


def test_an_open_teacher_has_its_own_price(make_tables):
    summary = summary_of(make_tables(questions=6, gains=(0.3, 0.2), noise=0.3), epsilon=0.001)
    leading = summary["leading_teacher"]
    assert not leading["is_decided"] and leading["more_tokens"] <= summary["more_tokens"]


def test_few_questions_give_no_interval_and_say_so(make_tables):
    summary = summary_of(make_tables(questions=3))
    entry = summary["arms"][0]["scores"]["all"]["mean_signal"]
    assert entry["intervals"]["questions"] is None
    assert entry["interval_reasons"]["questions"] == "fewer_than_5_questions"
    assert summary["recommendation"] is None and summary["more_tokens"] is None
    assert any("no interval" in warning for warning in summary["warnings"])


def test_a_copy_of_the_student_has_no_score_and_a_reason(make_tables):
    summary = summary_of(make_tables(gains=(0.0, 2.0), noise=0.0))
    copy = next(arm for arm in summary["arms"] if arm["teacher"] == "sage")
    for name in ("mean_cosine", "weighted_cosine", "fraction_positive", "pooled_cosine"):
        assert copy["scores"]["all"][name]["value"] is None
        assert copy["scores"]["all"][name]["reason"] == "no_direction"
    assert copy["scores"]["all"]["mean_signal"]["value"] == 0.0
    assert copy["measured_share"] is None or copy["measured_share"] >= 0
    last = summary["ranking"][-1]
    assert (last["teacher"], last["score"], last["reason"]) == ("sage", None, "no_direction")


def test_equal_success_rates_leave_noise(make_tables):
    tables = make_tables()
    half = tables.candidates.with_columns(success_rate=pl.lit(0.5), success_variance=pl.lit(0.01))
    summary = summary_of(tables._replace(candidates=half))
    scores = summary["arms"][0]["scores"]["all"]
    assert (scores["pooled_cosine"]["value"], scores["pooled_cosine"]["reason"]) == (None, "noise")
    assert scores["mean_cosine"]["reason"] == "no_eligible_nodes"
    assert scores["mean_advantage"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert "sampling noise" in summary["verdict"]


@pytest.mark.parametrize("part", ["candidates", "teacher_scores", "nodes"])
def test_nothing_measured_is_a_summary_too(make_tables, part):
    tables = make_tables()
    if part == "nodes":
        tables = tables._replace(candidates=tables.candidates.with_columns(kept=pl.lit(value=False)))
    else:
        tables = tables._replace(**{part: getattr(tables, part).clear()})
    summary = summary_of(tables)
    as_json(summary)
    assert summary["recommendation"] is None
    assert "Nothing to rank" in summary["verdict"]
    paths = pl.DataFrame(schema={"question_id": pl.String, "rollout_id": pl.Int64, "kind": pl.String})
    advice, entry = advise(summary, nodes=tables.nodes, alignment=pl.DataFrame(), rollouts=paths)
    assert advice.height == 0 and (entry["arm"], entry["advised"]) == (None, False)


def test_tests_name_their_family_and_what_they_could_have_shown(make_tables):
    tables = make_tables(questions=9, gains=(3.0, -3.0), noise=0.1, visits=40)
    rows = {(r["family"], r["teacher"], r["objective"]): r for r in summary_of(tables, {"sage": "fool"})["tests"]}
    row = rows["against control", "sage", "reverse_kl"]
    assert row["against"] == "fool"
    assert row["p"] == row["least_attainable_p"] == 2**-8
    assert row["p_holm"] == 2 * 2**-8 and row["family_size"] == 2
    assert rows["against no teacher", "fool", "reverse_kl"]["median"] < 0 < row["median"]
    assert ("against control", "fool", "reverse_kl") not in rows


def test_correlations_are_spearman_over_nodes(make_tables):
    from scipy import stats

    tables = make_tables(questions=9)
    nodes = complete_nodes(tables.nodes, tables.candidates)
    rows = compute_alignment(
        nodes, tables.candidates, tables.teacher_scores, tables.token_scores, objectives=["reverse_kl", "forward_kl"]
    ).filter(pl.col("cosine").is_not_null(), teacher="sage", objective="reverse_kl")
    found = next(
        row
        for row in summary_of(tables)["correlations"]
        if (row["teacher"], row["objective"], row["predictor"]) == ("sage", "reverse_kl", "reverse_kl_nats")
        and (row["response"], row["method"]) == ("cosine", "spearman")
    )
    expected = stats.spearmanr(rows["cosine"].round(12), rows["reverse_kl_nats"].round(12)).statistic
    assert found["value"] == pytest.approx(expected)
    assert found["n_nodes"] == rows.height
    assert found["interval"][0] < expected < found["interval"][1]


def test_oracle_filter_finds_nothing_where_there_is_only_noise(make_tables):
    tables = make_tables(questions=60, paths=4, candidates=2, visits=9, gains=(0.0, 0.0), noise=1.0, seed=4)
    rng = np.random.default_rng(0)
    n = tables.candidates["visits"].to_numpy()
    first = (n + 1) // 2
    a, b = rng.binomial(first, 0.5), rng.binomial(n - first, 0.5)
    rate = (a + b) / n
    noisy = tables.candidates.with_columns(
        successes_a=a, successes_b=b, successes=a + b, success_rate=rate, success_variance=rate * (1 - rate) / (n - 1)
    )
    arm = summary_of(tables._replace(candidates=noisy))["analyses"]["oracle_filter"][0]
    naive = compute_alignment(
        complete_nodes(tables.nodes, noisy),
        noisy,
        tables.teacher_scores,
        tables.token_scores,
        objectives=["reverse_kl"],
    )
    naive_gain = naive.filter(pl.col("cosine") > 0, teacher="fool")["signal"].mean()
    assert abs(arm["split"]["mean_signal_kept"]["value"]) < 0.2 * naive_gain
    assert arm["naive"]["mean_signal_kept"]["value"] == pytest.approx(naive_gain, rel=0.2)
    assert arm["naive"]["gain"]["interval"][0] > 0.0 > arm["split"]["gain"]["interval"][0]


def test_the_ranking_gives_the_interval_of_its_own_score(make_tables):
    """On shared nodes both are the arm's own; where a teacher lacks questions the ranking's differ from the arm's."""
    tables = make_tables(questions=12, paths=3, visits=40)
    arms = {(a["teacher"], a["objective"]): a["scores"]["all"]["pooled_cosine"] for a in summary_of(tables)["arms"]}
    for line in summary_of(tables)["ranking"]:
        own = arms.get((line["teacher"], line["objective"]))
        assert line["interval"] == (own["intervals"]["questions"] if own else None)
    fewer = tables.teacher_scores.filter((pl.col("teacher") == "sage") | (pl.col("question_id") > "q03"))
    summary = summary_of(tables._replace(teacher_scores=fewer))
    line = next(line for line in summary["ranking"] if line["teacher"] == "sage")
    arm = next(a for a in summary["arms"] if (a["teacher"], a["objective"]) == ("sage", line["objective"]))
    own = arm["scores"]["all"]["pooled_cosine"]
    assert line["score"] != own["value"]
    assert line["interval"][0] < line["score"] < line["interval"][1]
    assert line["interval"] != own["intervals"]["questions"]


def test_the_warning_about_pairs_counts_eligible_nodes(make_tables):
    tables = make_tables(questions=8, candidates=2)
    nodes = complete_nodes(tables.nodes, tables.candidates)
    eligible = int(nodes["eligible"].sum())
    assert eligible < nodes.filter(pl.col("kept_candidates") >= 2).height
    assert any(f"of the {eligible} eligible nodes" in text for text in summary_of(tables)["warnings"])
