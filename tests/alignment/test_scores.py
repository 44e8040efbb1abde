import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_reference import node_quantities

from hydrometer.alignment import complete_nodes, compute_alignment
from hydrometer.alignment.arrays import centre, node_noise, pack_nodes
from hydrometer.alignment.scores import ALIGNMENT_SCHEMA

KEYS = ["question_id", "rollout_id", "position"]


def align(tables, objectives=("reverse_kl", "forward_kl")):
    nodes = complete_nodes(tables.nodes, tables.candidates)
    return compute_alignment(
        nodes, tables.candidates, tables.teacher_scores, tables.token_scores, objectives=list(objectives)
    )


def test_alignment_equals_plain_loops(make_tables):
    tables = make_tables(seed=3)
    rows = align(tables)
    seen = 0
    for teacher in ("sage", "fool"):
        for objective in ("reverse_kl", "forward_kl"):
            expected = node_quantities(tables, objective, teacher)
            arm = rows.filter((pl.col("teacher") == teacher) & (pl.col("objective") == objective))
            assert arm.height == len(expected)
            for row in arm.to_dicts():
                node = expected[tuple(row[key] for key in KEYS)]
                for name, value in (("inner_product", node["inner"]), ("signal", node["signal"])):
                    assert row[name] == pytest.approx(value, abs=1e-12)
                assert row["direction_norm"] == pytest.approx(math.sqrt(node["d2"]))
                assert row["ideal_norm"] == pytest.approx(math.sqrt(node["g2"]), abs=1e-12)
                assert row["advantage"] == pytest.approx(node["advantage"], abs=1e-12)
                assert row["depth_frac"] == row["position"] / 5
                if node["cosine"] is None:
                    assert row["cosine"] is None and row["reason"] == "equal_success_rates"
                else:
                    assert row["cosine"] == pytest.approx(node["cosine"]) and row["reason"] is None
                seen += 1
    assert seen > 80


def test_direction_share_is_the_kept_part_of_the_whole_square(make_tables):
    tables = make_tables(seed=5)
    row = align(tables).filter(pl.col("objective") == "reverse_kl").to_dicts()[7]
    mine = [pl.col(key) == row[key] for key in KEYS]
    scores = tables.teacher_scores.filter(*mine, pl.col("teacher") == row["teacher"])
    token = tables.token_scores.filter(*mine, pl.col("teacher") == row["teacher"], objective="reverse_kl").to_dicts()[0]
    square = 0.0
    for candidate in tables.candidates.filter(*mine, pl.col("kept")).to_dicts():
        f = scores.filter(token_id=candidate["token_id"])["field:reverse_kl"].item()
        square += (math.exp(candidate["student_logprob"]) * (f - token["field_mean"])) ** 2
    assert 0 < square < token["full_norm_squared"]
    assert row["direction_share"] == pytest.approx(square / token["full_norm_squared"])


@given(
    p=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5),
    tilt=st.sampled_from([-2.0, -0.1, 0.1, 3.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_tilted_student_is_the_ideal_teacher(p, tilt, seed):
    weights = np.array(p) / sum(p)
    rates = np.random.default_rng(seed).random(len(p))
    mass = np.array([0.8])
    ideal = centre(weights[None], mass, rates[None])[0]
    tilted = np.log(weights * np.exp(tilt * rates)) - np.log(weights)
    direction = centre(weights[None], mass, tilted[None])[0]
    # p exp(b S) has log-ratio b S plus a constant, so its direction is b times the ideal one.
    assert direction == pytest.approx(tilt * ideal, abs=1e-12)
    assert abs(ideal.sum()) < 1e-12


def test_a_copy_of_the_student_has_no_direction_anywhere(make_tables):
    tables = make_tables(gains=(0.0, 0.0), noise=0.0)
    rows = align(tables)
    eligible = rows.filter(pl.col("reason") != "equal_success_rates")
    assert eligible.height > 50
    assert eligible["cosine"].null_count() == eligible.height
    assert eligible["reason"].unique().to_list() == ["no_direction"]
    assert rows["signal"].abs().max() == 0.0


def test_a_partly_scored_node_is_dropped_for_all_teachers(make_tables):
    tables = make_tables()
    row = align(tables).to_dicts()[0]
    mine = pl.all_horizontal(pl.col(key) == row[key] for key in KEYS)
    token = tables.candidates.filter(mine, pl.col("kept"))["token_id"][0]
    gap = mine & (pl.col("token_id") == token) & (pl.col("teacher") == "sage")
    partial = tables._replace(teacher_scores=tables.teacher_scores.filter(~gap))
    assert align(partial).filter(mine).is_empty()
    whole = tables._replace(teacher_scores=tables.teacher_scores.filter(~(mine & (pl.col("teacher") == "sage"))))
    assert align(whole).filter(mine)["teacher"].unique().to_list() == ["fool"]


def test_row_order_does_not_matter(make_tables):
    tables = make_tables()
    shuffled = type(tables)(*(frame.sample(fraction=1.0, shuffle=True, seed=4) for frame in tables))
    assert align(tables).equals(align(shuffled))


@pytest.mark.parametrize("part", ["candidates", "teacher_scores"])
def test_nothing_gives_an_empty_table_of_the_same_schema(make_tables, part):
    tables = make_tables()
    rows = align(tables._replace(**{part: getattr(tables, part).clear()}))
    assert rows.is_empty()
    assert dict(rows.schema) == {name: kind() for name, kind in ALIGNMENT_SCHEMA.items()}


def test_nodes_say_what_they_are(make_tables):
    tables = make_tables(seed=2)
    nodes = complete_nodes(tables.nodes, tables.candidates)
    assert nodes.height == tables.nodes.height
    few = nodes.filter(pl.col("kept_candidates") < 2)
    assert few["reason"].unique().to_list() == ["fewer_than_two_kept"]
    assert few["noise_correction"].null_count() == few.height
    assert not few["eligible"].any()
    assert nodes.filter(pl.col("kept_candidates") == 0)["value"].null_count() > 0
    reference = node_quantities(tables, "reverse_kl", "sage")
    for row in nodes.filter(pl.col("kept_candidates") >= 2).to_dicts():
        expected = reference[tuple(row[key] for key in KEYS)]
        assert row["noise_correction"] == pytest.approx(expected["noise"], abs=1e-15)
        assert row["success_gap"] == pytest.approx(expected["gap"])
        assert row["eligible"] == (expected["cosine"] is not None)
    again = complete_nodes(nodes, tables.candidates)
    assert again.equals(nodes)


@pytest.mark.parametrize("visits", [(2, 2), (2, 3), (4, 3, 2), (3, 3, 4)])
def test_noise_correction_is_unbiased_by_enumeration(visits):
    rng = np.random.default_rng(sum(visits))
    truth, p = rng.uniform(0.1, 0.9, len(visits)), rng.dirichlet(np.ones(len(visits) + 1))[:-1]
    counts = np.array(np.meshgrid(*(np.arange(n + 1) for n in visits), indexing="ij")).reshape(len(visits), -1).T
    chance = np.array([math.prod(map(_binomial, row, visits, truth)) for row in counts])
    rows = [
        {
            "question_id": "q",
            "rollout_id": outcome,
            "position": 0,
            "token_id": k,
            "continuation": "student",
            "student_logprob": math.log(p[k]),
            "visits": n,
            "success_rate": row[k] / n,
            "success_variance": row[k] / n * (1 - row[k] / n) / (n - 1),
            **dict.fromkeys(("visits_a", "visits_b", "successes_a", "successes_b"), 1),
            "kept": True,
        }
        for outcome, row in enumerate(counts)
        for k, n in enumerate(visits)
    ]
    kept = pack_nodes(pl.DataFrame(rows))
    ideal = centre(kept.weights, kept.mass, kept.rates)
    expectation = float((chance * ((ideal**2).sum(-1) - node_noise(kept))).sum())
    true_ideal = centre(kept.weights[:1], kept.mass[:1], truth[None])
    assert chance.sum() == pytest.approx(1.0)
    assert expectation == pytest.approx(float((true_ideal**2).sum()), rel=1e-12)
    assert float((chance * (ideal**2).sum(-1)).sum()) > 1.05 * expectation


def _binomial(successes, n, rate):
    return math.comb(n, int(successes)) * rate ** int(successes) * (1 - rate) ** (n - int(successes))


def test_equal_rates_give_exact_zeros_and_two_candidates_a_cosine_of_exactly_one(make_tables):
    tables = make_tables(questions=30, paths=3, candidates=3)
    always = tables.candidates.with_columns(
        success_rate=pl.when(pl.col("question_id") < "q10").then(1.0).otherwise(pl.col("success_rate"))
    )
    rows = align(tables._replace(candidates=always))
    equal = rows.filter(pl.col("question_id") < "q10")
    assert equal.height > 50
    assert equal.select(pl.col("inner_product", "ideal_norm", "signal").abs().max()).row(0) == (0.0, 0.0, 0.0)
    kept = always.filter("kept").group_by(KEYS).len("n")
    pairs = rows.join(kept.filter(n=2), on=KEYS).filter(pl.col("cosine").is_not_null())
    assert pairs.height > 50
    assert set(pairs["cosine"].to_list()) == {-1.0, 1.0}
