import json
from typing import Any

import pytest

from hydrometer.report import RunFiles, build_view
from hydrometer.report.arms import build_arms
from hydrometer.report.records import build_tests, build_warnings
from hydrometer.report.view import build_answer, flatten


def score(value: float | None, reason: str | None = None, questions: list[Any] | None = None) -> dict[str, Any]:
    return {
        "value": value,
        "plain": value,
        "n_nodes": 9,
        "n_questions": 3,
        "intervals": {"questions": questions},
        "reason": reason,
    }


def arm(teacher: str, value: float | None, **more: Any) -> dict[str, Any]:
    pooled = score(value, None if value is not None else "noise")
    return dict(
        teacher=teacher,
        objective="reverse_kl",
        continuation="student",
        scores={"all": {"pooled_cosine": pooled}},
        **more,
    )


def entry(teacher: str, value: float | None, probability: float | None) -> dict[str, Any]:
    return {
        "teacher": teacher,
        "objective": "reverse_kl",
        "continuation": "student",
        "score": value,
        "p_within_epsilon": probability,
    }


def test_the_view_is_plain_json_and_agrees_with_the_files(run_files: RunFiles):
    view, data = build_view(run_files)
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert view["student"] == "bundled:student"
    assert view["task"] == "bundled:chain"
    facts = dict(view["facts"])
    eligible = run_files.nodes["eligible"].sum()
    assert facts["Nodes"].startswith(f"{run_files.nodes.height}, measured ")
    assert facts["Nodes"].endswith(f"eligible {eligible}")
    assert facts["Ranking"].startswith("Arms are ranked by their pooled cosine")
    assert view["answer"]["state"] == "recommended"
    assert view["answer"]["chosen"] == [view["arms"][0]["label"]]
    assert [arm["recommended"] for arm in view["arms"]] == [True, *[False] * (len(view["arms"]) - 1)]
    assert view["arms"][0]["teacher"] == "expert"
    expected = run_files.summary["ranking"][0]["score"]
    assert view["arms"][0]["scores"]["all"]["pooled_cosine"]["value"] == pytest.approx(expected)
    skipped = next(context for context in view["contexts"] if context[0] == "self+answer")
    assert skipped == ["self+answer", "3", "1", "no correct rollout to show (1)"]
    assert ["sampling.max_tokens", "64"] in view["settings"]
    assert ["teacher.1.name", "self+answer"] in view["settings"]
    assert ["seed", "0"] in view["provenance"]
    assert view["cost"] == [
        ["Cost: rollouts", "1,920"],
        ["Cost: generated tokens", "81,234"],
        ["Cost: scored tokens", "40,960"],
        ["Cost: wall time, seconds", "71.25"],
    ]


def test_arms_stand_in_ranking_order_with_references_last_and_no_teacher_among_them():
    summary = {
        "arms": [arm("dr", 0.5, reference=True), arm("bad", -0.2), arm("mute", None), arm("good", 0.3)],
        "ranking": [
            entry("good", 0.31, 0.96),
            {"teacher": "no_teacher", "score": 0.0, "p_within_epsilon": 0.1},
            entry("bad", -0.2, 0.0),
        ],
    }
    arms = build_arms(summary)
    assert [row["teacher"] for row in arms] == ["good", "no teacher", "bad", "mute", "dr"]
    assert [row["place"] for row in arms] == [1, 2, 3, None, None]
    assert arms[0]["ranking_score"] == 0.31
    assert arms[0]["scores"]["correct"]["pooled_cosine"]["reason"] == "it was not computed"
    assert arms[3]["scores"]["all"]["pooled_cosine"]["value"] is None
    assert "sampling noise" in arms[3]["scores"]["all"]["pooled_cosine"]["reason"]


def test_not_separated_names_the_front_runner_and_the_price():
    arms = build_arms(
        {"arms": [arm("a", 0.1), arm("b", 0.12)], "ranking": [entry("b", 0.12, 0.6), entry("a", 0.1, 0.4)]}
    )
    verdict = "Not separated yet: b leads by little."
    answer = build_answer({"recommendation": None, "more_tokens": 120_000, "verdict": verdict}, arms)
    assert (answer["state"], answer["front"], answer["more_tokens"]) == ("open", "b, reverse_kl", 120_000)
    assert (answer["headline"], answer["text"]) == ("Not separated yet", "b leads by little.")
    nested = build_answer({"recommendation": {"teacher": None, "more_tokens": 7}}, arms)
    assert (nested["state"], nested["more_tokens"]) == ("open", 7)
    assert build_answer({}, arms)["more_tokens"] is None


def test_doing_without_a_teacher_can_be_the_recommendation():
    recommendation = {"teacher": "no teacher", "objective": "none", "probability": 0.99, "sentence": "Nothing helps."}
    answer = build_answer({"recommendation": recommendation}, [])
    assert (answer["state"], answer["headline"]) == ("recommended", "Do without: no teacher")
    assert (answer["chosen"], answer["text"], answer["probability"]) == (["no teacher"], "Nothing helps.", 0.99)


def test_a_teacher_can_be_decided_without_its_objective():
    arms = build_arms(
        {
            "arms": [arm("a", 0.3), arm("a", 0.31) | {"objective": "forward_kl"}, arm("b", 0.1)],
            "ranking": [
                entry("a", 0.31, 0.7) | {"objective": "forward_kl"},
                entry("a", 0.3, 0.6),
                entry("b", 0.1, 0.0),
            ],
        }
    )
    leading = {"teacher": "a", "objectives": ["forward_kl", "reverse_kl"], "probability": 0.99, "is_decided": True}
    answer = build_answer({"recommendation": None, "leading_teacher": leading, "verdict": "Take either."}, arms)
    assert (answer["state"], answer["headline"]) == ("teacher", "Train with a, forward_kl or reverse_kl")
    assert (answer["chosen"], answer["text"]) == (["a, forward_kl", "a, reverse_kl"], "Take either.")
    open_still = build_answer({"leading_teacher": leading | {"is_decided": False}, "verdict": "Not yet."}, arms)
    assert (open_still["state"], open_still["chosen"]) == ("open", [])
    assert open_still["headline"] == "Not separated yet; in front: a, forward_kl or reverse_kl"


def test_without_a_score_the_answer_says_so_with_the_reason():
    ranking = [dict(entry("a", None, None), reason="no_direction"), {"teacher": "no teacher", "score": 0.0}]
    answer = build_answer({"verdict": "Why not."}, build_arms({"arms": [arm("a", None)], "ranking": ranking}))
    assert (answer["state"], answer["text"]) == ("nothing", "Why not.")
    assert len(answer["reasons"]) == 1
    assert "no change" in answer["reasons"][0]
    assert build_answer({}, [])["state"] == "nothing"


def test_the_ranking_that_recommends_comes_first():
    ahead = {"continuation": "expert"}
    ranking = [entry("a", 0.3, 0.9) | ahead, entry("no teacher", 0.0, 0.1) | ahead]
    arms = build_arms({"arms": [], "ranking": [*ranking, entry("no teacher", 0.0, 0.8), entry("a", -0.1, 0.2)]})
    by_teacher = [("a, reverse_kl, continued by expert", 1), ("no teacher, continued by expert", 2)]
    by_student = [("no teacher", 1), ("a, reverse_kl", 2)]
    assert [(row["label"], row["place"]) for row in arms] == [*by_teacher, *by_student]
    assert build_answer({}, arms)["front"] == "a, reverse_kl, continued by expert"
    turned = build_arms({"arms": [], "ranking": [entry("no teacher", 0.0, 0.8), entry("a", -0.1, 0.2), *ranking]})
    assert [(row["label"], row["place"]) for row in turned] == [*by_student, *by_teacher]


def test_harm_stands_in_the_answer_and_beside_the_arm(run_files):
    sentence = "a ranks below no teacher whatever its cosine."
    worth = {"value": -0.3, "interval": [-0.5, -0.1], "measured": -0.2, "counted_as_harm": -0.1}
    first = {**run_files.summary["ranking"][0], "worth": worth, "is_harm": True}
    told = "a is told the answer."
    summary = {
        **run_files.summary,
        "harms": [sentence],
        "told": [told],
        "ranking": [first, *run_files.summary["ranking"][1:]],
    }
    page = build_view(run_files._replace(summary=summary))
    assert (page.view["harms"], page.view["told"]) == ([sentence], [told])
    assert page.view["arms"][0]["worth"] == {"value": -0.3, "interval": [-0.5, -0.1]}
    assert page.view["arms"][0]["is_harm"] and not page.view["arms"][1]["is_harm"]
    assert build_view(run_files).view["harms"] == build_view(run_files).view["told"] == []


def test_a_missing_interval_has_its_reason_and_attenuated_scores_their_visits():
    few = score(0.4) | {"interval_reasons": {"questions": "fewer_than_5_questions"}, "value_at_half_visits": 0.3}
    scores = {"all": {"mean_cosine": few | {"median_visits": 20}}}
    shown = build_arms({"arms": [{"teacher": "a", "objective": "x", "scores": scores}]})[0]["scores"]["all"][
        "mean_cosine"
    ]
    assert shown["interval_reason"] == "no interval: fewer than 5 questions"
    assert (shown["at_half_visits"], shown["median_visits"], shown["reliability"]) == (0.3, 20.0, None)


def test_tests_are_grouped_by_family_without_empty_columns():
    row = {"teacher": "a", "continuation": "student", "against": None, "reason": None}
    tests = [
        {"family": "one", **row, "p": 0.01, "p_holm": 0.02},
        {"family": "two", **row, "p": None, "p_holm": None, "reason": "no_question_with_a_difference"},
        {"family": "one", **row, "p": 0.2, "p_holm": 0.2},
    ]
    one, two = build_tests(tests)
    assert one == {
        "name": "one",
        "columns": ["teacher", "p", "p_holm"],
        "rows": [["a", 0.01, 0.02], ["a", 0.2, 0.2]],
        "below": 1,
    }
    assert (two["columns"], two["rows"]) == (["teacher", "reason"], [["a", "no question shows a difference"]])
    assert two["below"] is None
    assert build_tests(None) == []


def test_an_interval_with_an_open_end_is_no_interval():
    broken = {
        "arms": [
            {"teacher": "a", "objective": "x", "scores": {"all": {"pooled_cosine": score(0.1, None, [None, 0.2])}}}
        ]
    }
    assert build_arms(broken)[0]["scores"]["all"]["pooled_cosine"]["questions"] is None


def test_warnings_are_sentences_whatever_their_form():
    summary = {"warnings": ["plain", {"code": "x", "message": "told"}, {"teacher": "t", "objective": "o"}, 7]}
    assert build_warnings(summary) == ["plain", "told", "t, o", "7"]
    assert len(build_warnings({"warnings": ["w"] * 500})) == 101
    assert build_warnings({}) == []


def test_settings_are_flattened_in_order():
    nested = {"a": {"b": 1, "c": None}, "d": [], "e": [1, 2], "f": [{"g": True}], "h": {}}
    assert flatten(nested) == [
        ["a.b", "1"],
        ["a.c", "not set"],
        ["d", "(none)"],
        ["e", "1, 2"],
        ["f.0.g", "True"],
        ["h", "{}"],
    ]
