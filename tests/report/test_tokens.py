import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from hydrometer.report import RunFiles
from hydrometer.report.paths import build_token_view, order_paths
from hydrometer.report.tokens import MAX_CANDIDATES, StringTable, build_node, is_sign_certain, node_state, rounded_all

COSINE, CERTAIN, REASON = 0, 4, 5
KEPT, DRAWN, IDEAL, TEACHERS, DIRECTIONS, EXAMPLES = 6, 7, 8, 9, 10, 11


@pytest.fixture(scope="module")
def token_view(run_files: RunFiles) -> dict[str, Any]:
    return build_token_view(run_files)


def test_directions_of_the_page_multiply_to_the_inner_products_of_the_table(
    run_files: RunFiles, token_view: dict[str, Any]
):
    checked = 0
    for question in token_view["questions"]:
        for path in question["paths"]:
            for position, node in enumerate(path["nodes"]):
                for place, (teacher, objective) in enumerate(token_view["arms"]):
                    row = run_files.alignment.filter(
                        question_id=question["id"],
                        rollout_id=path["id"],
                        position=position,
                        teacher=teacher,
                        objective=objective,
                    )
                    if row.is_empty():
                        continue
                    kept = [candidate for candidate in node["candidates"] if candidate[KEPT]]
                    ideal = [candidate[IDEAL] for candidate in kept]
                    direction = [candidate[DIRECTIONS][place] for candidate in kept]
                    size = row["ideal_norm"][0] * row["direction_norm"][0]
                    product = sum(g * d for g, d in zip(ideal, direction, strict=True))
                    assert product == pytest.approx(row["inner_product"][0], rel=1e-2, abs=1e-2 * size + 1e-15)
                    assert sum(ideal) == pytest.approx(0.0, abs=3e-3)
                    assert math.hypot(*direction) == pytest.approx(row["direction_norm"][0], rel=1e-2, abs=1e-15)
                    checked += 1
    assert checked == run_files.alignment.height > 100


def test_every_node_of_a_path_is_there_with_its_token_and_state(run_files: RunFiles, token_view: dict[str, Any]):
    path = token_view["questions"][1]["paths"][0]
    rows = run_files.nodes.filter(question_id="q001", rollout_id=path["id"])
    assert len(path["nodes"]) == rows.height
    for node, row in zip(path["nodes"], rows.iter_rows(named=True), strict=True):
        shown = "".join(token_view["strings"][node["token"]])
        assert shown == row["token"].replace(" ", "·").replace("\n", "⏎")
        assert (node["state"] == "unmeasured") == (row["kept_candidates"] < 2)
        assert sum(candidate[DRAWN] for candidate in node["candidates"]) == 1  # the drawn token is among the candidates
    assert path["correct"] == rows["path_correct"][0]


def test_verdicts_come_from_alignment_and_from_token_scores_where_nothing_was_measured(
    run_files: RunFiles, token_view: dict[str, Any]
):
    arm = token_view["arms"].index(["expert", "reverse_kl"])
    path = token_view["questions"][0]["paths"][0]
    for position, node in enumerate(path["nodes"]):
        key = {
            "question_id": "q000",
            "rollout_id": path["id"],
            "position": position,
            "teacher": "expert",
            "objective": "reverse_kl",
        }
        full = run_files.token_scores.filter(**key)
        kl = node["kl"][token_view["teachers"].index("expert")]
        assert kl == pytest.approx(full["reverse_kl_nats"][0], rel=1e-2)
        if node["state"] == "unmeasured":
            assert "arms" not in node
        else:
            cosine = run_files.alignment.filter(**key)["cosine"][0]
            assert node["arms"][arm][COSINE] == pytest.approx(cosine, rel=1e-2)


def test_a_copy_of_the_student_has_no_cosine_and_says_why(token_view: dict[str, Any]):
    arm = token_view["arms"].index(["twin", "reverse_kl"])
    nodes = [node for question in token_view["questions"] for path in question["paths"] for node in path["nodes"]]
    verdicts = [node["arms"][arm] for node in nodes if node["state"] == "measured"]
    assert verdicts
    assert "no change" in token_view["reasons"]["no_direction"]
    assert all(verdict[COSINE] is None and verdict[REASON] == "no_direction" for verdict in verdicts)


def candidate(token_id: int, p: float, rate: float, low: float, high: float, *, kept: bool = True) -> dict[str, Any]:
    return {
        "token_id": token_id,
        "token": f"t{token_id}",
        "student_logprob": math.log(p),
        "success_rate": rate,
        "success_low": low,
        "success_high": high,
        "visits": 30,
        "kept": kept,
    }


def test_what_a_nodes_success_rates_say_at_all():
    first, second = candidate(1, 0.5, 0.2, 0.1, 0.35), candidate(2, 0.4, 0.7, 0.5, 0.8)
    assert node_state([first, second], eligible=True) == "measured"
    assert node_state([first, second], eligible=False) == "equal"
    assert node_state([first], eligible=False) == "unmeasured"


def test_a_sign_is_certain_where_the_noise_of_the_rates_cannot_turn_it():
    apart = [candidate(1, 0.5, 0.2, 0.1, 0.3), candidate(2, 0.5, 0.8, 0.7, 0.9)]
    # c = p (d - 0) = (0.5, -0.5) x 0.3, g.d = 0.15 x 0.6, 1.96 sd = 0.15 x 0.1 x sqrt(2)
    assert is_sign_certain(apart, [0.3, -0.3])
    near = [candidate(1, 0.5, 0.45, 0.35, 0.55), candidate(2, 0.5, 0.55, 0.45, 0.65)]
    assert not is_sign_certain(near, [0.3, -0.3])
    unlikely = [*near, candidate(3, 1e-6, 0.0, 0.0, 0.01)]
    assert not is_sign_certain(unlikely, [0.3, -0.3, 0.0]), "a token that nobody draws decides nothing"
    assert not is_sign_certain(apart, [0.3, None])
    assert not is_sign_certain([apart[0] | {"success_low": None}, apart[1]], [0.3, -0.3])


def test_certainty_agrees_with_drawing_the_rates_again():
    rng = np.random.default_rng(0)
    rows = [candidate(1, 0.5, 0.3, 0.2, 0.4), candidate(2, 0.3, 0.45, 0.3, 0.6), candidate(3, 0.1, 0.9, 0.7, 1.1)]
    masses, rates = np.array([0.5, 0.3, 0.1]), np.array([0.3, 0.45, 0.9])
    drawn = rng.normal(rates, np.array([0.1, 0.15, 0.2]) / 1.96, size=(200_000, 3))
    for direction in ([0.1, -0.1, 0.0], [-0.1, 0.0, 0.1], [-0.05, 0.1, -0.05], [-0.2, 0.19, 0.01]):
        w = masses / masses.sum()
        ideal = masses * (drawn - (drawn @ w)[:, None])
        turned = min((ideal @ direction > 0).mean(), (ideal @ direction < 0).mean())
        assert is_sign_certain(rows, direction) == bool(turned < 0.025)


def node_row() -> dict[str, Any]:
    names = ("kept_student_mass", "student_entropy_nats", "value", "success_gap", "reason")
    return dict(token="t1", token_id=1, eligible=True, **dict.fromkeys(names))


def test_directions_of_a_hand_computed_node():
    rows = [
        candidate(1, 0.6, 0.5, 0.4, 0.6),
        candidate(2, 0.2, 0.9, 0.8, 1.0),
        candidate(3, 0.1, 0.0, 0.0, 0.1, kept=False),
    ]
    scores = {
        (token, "expert"): {"teacher_logprob": math.log(0.5), "field:x": f}
        for token, f in ((1, 0.0), (2, 4.0), (3, 9.0))
    }
    node = build_node(
        node_row(),
        rows,
        scores,
        {},
        {2: [4, 0]},
        teachers=["expert"],
        arms=[("expert", "x"), ("other", "x")],
        strings=StringTable(),
    )
    # w = (3/4, 1/4): mean S = 0.6, g = (0.6 * -0.1, 0.2 * 0.3); mean f = 1, d = (0.6 * -1, 0.2 * 3)
    assert [row[IDEAL] for row in node["candidates"]] == [pytest.approx(-0.06), pytest.approx(0.06), None]
    assert [row[DIRECTIONS] for row in node["candidates"]] == [
        [pytest.approx(-0.6), None],
        [pytest.approx(0.6), None],
        [],
    ]
    assert [row[EXAMPLES] for row in node["candidates"]] == [[], [4, 0], []]
    assert [row[TEACHERS] for row in node["candidates"]] == [[0.5]] * 3
    assert "arms" not in node
    assert node["hidden"] == 0


def test_kept_candidates_are_listed_before_likely_ones_that_were_dropped():
    rows = [candidate(number, 0.05 - number / 1000, 0.5, 0.4, 0.6, kept=number >= 15) for number in range(20)]
    node = build_node(node_row(), rows, {}, {}, {}, teachers=[], arms=[], strings=StringTable())
    assert len(node["candidates"]) == MAX_CANDIDATES
    assert node["hidden"] == 20 - MAX_CANDIDATES
    assert sum(row[KEPT] for row in node["candidates"]) == 5
    assert [row[1] for row in node["candidates"]] == sorted((row[1] for row in node["candidates"]), reverse=True)


def test_paths_that_do_not_fit_are_left_out_and_counted(run_files: RunFiles):
    whole = build_token_view(run_files)
    assert (whole["left_out"], whole["paths"]) == (0, 6)
    part = build_token_view(run_files, data_bytes=12_000)
    shown = [(question["id"], path["id"]) for question in part["questions"] for path in question["paths"]]
    assert 0 < len(shown) < 6
    assert part["left_out"] == 6 - len(shown)
    indices = [
        row[0]
        for question in part["questions"]
        for path in question["paths"]
        for n in path["nodes"]
        for row in n["candidates"]
    ]
    assert max(indices) < len(part["strings"])
    none = build_token_view(run_files, data_bytes=10)
    assert (none["questions"], none["strings"], none["left_out"]) == ([], [], 6)


def test_every_question_comes_first_once_and_incorrect_paths_before_correct_ones(run_files: RunFiles):
    informative = pl.col("question_id") != "q000"
    order = order_paths(
        run_files._replace(questions=run_files.questions.with_columns(informative.alias("informative")))
    )
    assert [(question, path) for question, path, _ in order] == [
        *(("q001", 1), ("q002", 1), ("q000", 1)),
        *(("q001", 0), ("q002", 0), ("q000", 0)),
    ]


def test_rounding_keeps_significant_digits_and_drops_what_is_not_finite():
    assert rounded_all([0.000123456, -12345.6, None, float("nan"), 0.0]) == [0.000123, -12300.0, None, None, 0.0]
