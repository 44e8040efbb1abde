"""The ranking as a figure (every metric, on all, correct and incorrect responses), and the looks that led to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydrometer.report.arms import SPLITS, arm_key
from hydrometer.report.figures import Figure
from hydrometer.report.numbers import format_interval, format_number, format_unit
from hydrometer.report.words import METRICS, RANKING_METRIC, Metric

Json = dict[str, Any]
RANKING_SCORE = "Ranking score"
CHOICES: tuple[Metric, ...] = tuple(
    metric
    for name in (
        "pooled_cosine",
        "weighted_cosine",
        "mean_advantage",
        "mean_signal",
        "mean_cosine",
        "fraction_positive",
    )
    for metric in METRICS
    if metric.key == name
)
"""Metrics in the order in which a reader can choose them."""
_COLUMNS = (
    *("arm", "metric", "split", "value", "low", "high", "narrow_low", "narrow_high", "nodes", "questions", "unit"),
    *("note", "hover"),
)
_RANKED_BY = {
    "outcomes": "Arms are ranked by the outcomes of all scored responses; the other metrics rest on the nodes that "
    "were branched at.",
    "branches": "Arms are ranked by their pooled cosine over the nodes that all ranked arms share.",
}


def ranking_figure(arms: Sequence[Json], summary: Mapping[str, Any]) -> Figure:
    """Intervals of every arm by metric and split; the ranking's own score first."""
    tests = _tests_by_arm(summary)
    by_branches = summary.get("ranked_by") != "outcomes"
    rows = [
        list(row)
        for arm in arms
        for row in _arm_rows(arm, tests.get((arm["teacher"], arm["objective"]), []), by_branches=by_branches)
    ]
    return Figure(
        key="ranking",
        title="How every arm points",
        note=ranked_by_in_words(summary) + " Line: 95 % for other questions of this kind; broad band: 95 % for "
        "exactly these questions; hollow dot: no interval.",
        chart={
            "kind": "intervals",
            "y": "arm",
            "x": "value",
            "low": "low",
            "high": "high",
            "panel": "split",
            "inner": ["narrow_low", "narrow_high"],
            "unit": "unit",
            "zero": "no teacher",
            "empty": "note",
        },
        columns=_COLUMNS,
        rows=rows,
        filters=("metric",),
    )


def ranked_by_in_words(summary: Mapping[str, Any]) -> str:
    """How the ranking was made; older runs, which do not say, ranked by branches."""
    return _RANKED_BY.get(str(summary.get("ranked_by") or "branches"), f"Ranked by {summary.get('ranked_by')}.")


def looks_figure(summary: Mapping[str, Any]) -> Figure | None:
    """The leader's probability at each look at the ranking; None where the run looked once, at its end."""
    looks = summary.get("looks") or []
    if len(looks) < 2:
        return None
    rows = [
        [look["questions"], series, look[name], look["leader"], look["generated_tokens"], _look_hover(look)]
        for look in looks
        for series, name in (("leader's probability", "probability"), ("needed to stop", "needed"))
    ]
    return Figure(
        key="looks",
        title="Looks at the ranking while the run went on",
        note="Probability that the leader is within epsilon of the best arm, after so many questions. The run stops "
        "at the first look where it reaches what is needed (more than 0.95, because every look is a chance to err) and "
        f"every other arm is told apart from the leader or known to be as good.{_still_open(looks[-1])}",
        chart={
            "kind": "lines",
            "x": "questions",
            "y": "value",
            "series": "series",
            "xLabel": "questions",
            "dots": True,
        },
        columns=("questions", "series", "value", "leader", "generated_tokens", "hover"),
        rows=rows,
    )


def _still_open(last: Mapping[str, Any]) -> str:
    """What the run went on for where only the objective was open; empty where it was something else."""
    if last["is_decided"] or last.get("teacher_decided_after") is None:
        return ""
    return f" Here the teacher was decided after {last['teacher_decided_after']} questions, its objective never was."


def _look_hover(look: Mapping[str, Any]) -> str:
    verdict = "decided" if look["is_decided"] else "not decided"
    if not look["is_decided"] and look.get("teacher_decided_after") is not None:
        verdict = f"teacher decided after {look['teacher_decided_after']} questions, objective still open"
    lines = [
        f"After {look['questions']} questions, {look['generated_tokens']:,} tokens: {verdict}",
        f"in front: {look['leader']}, score {format_unit(look['score'], 'cosine')}",
        f"probability {format_number(look['probability'])}, needed {format_number(look['needed'])}",
    ]
    if look.get("more_tokens") is not None and not look["is_decided"]:
        lines.append(f"about {look['more_tokens']:,} more tokens would do at these scores")
    return "\n".join(lines)


def _arm_rows(arm: Json, tests: Sequence[Mapping[str, Any]], *, by_branches: bool) -> Iterator[tuple[Any, ...]]:
    """The ranking's score first; where it is made of branches, beside its parts on correct and incorrect responses."""
    label = ("★ " if arm.get("recommended") else "") + arm["label"]
    if arm["place"] is not None:
        yield _ranking_row(arm, label, "all", tests)
    if arm["no_teacher"]:
        if by_branches:
            yield from (_ranking_row(arm, label, split, ()) for split in SPLITS[1:])
        return
    if by_branches and arm["place"] is not None:
        for split in SPLITS[1:]:
            yield _score_row(arm, label, RANKING_METRIC, split, tests, name=RANKING_SCORE)
    for metric in CHOICES:
        for split in SPLITS:
            yield _score_row(arm, label, metric, split, tests, name=metric.label)


def _score_row(
    arm: Json, label: str, metric: Metric, split: str, tests: Sequence[Mapping[str, Any]], *, name: str
) -> tuple[Any, ...]:
    score = arm["scores"][split][metric.key]
    ends = score["questions"] or [None, None]
    narrow = score["these_questions"] or [None, None]
    note = score["reason"] or score["interval_reason"]
    hover = "\n".join(_hover(arm, metric, split, score, tests))
    numbers = (score["value"], *ends, *narrow, score["n_nodes"], score["n_questions"], metric.unit)
    return (label, name, split, *numbers, note, hover)


def _ranking_row(arm: Json, label: str, split: str, tests: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """The score of the ranking itself; `no teacher` has the score 0 and no interval."""
    ends = arm["ranking_interval"] or [None, None]
    value = arm["ranking_score"]
    lines = [f"{arm['place']}. {arm['label']}"]
    if arm["no_teacher"]:
        lines.append("score 0: leaving the student as it is")
    elif value is None:
        lines.append(f"no score: {arm['ranking_reason']}")
    else:
        lines.append(
            f"score {format_unit(value, 'cosine')} {format_interval(arm['ranking_interval']) or 'no interval'}"
        )
    if arm["p_within_epsilon"] is not None:
        lines.append(f"probability of being within epsilon of the best: {arm['p_within_epsilon']:.3f}")
    if not arm["no_teacher"]:
        score = arm["scores"]["all"][RANKING_METRIC.key]
        lines.append(f"{score['n_nodes']:,} measured nodes of its own, {score['n_questions']} questions")
    lines += [line for test in tests for line in _test_line(test, RANKING_METRIC)]
    note = arm["ranking_reason"] if value is None else None if arm["ranking_interval"] else "no interval"
    counts = (None, None, RANKING_METRIC.unit)
    hover = "\n".join(lines)
    return (label, RANKING_SCORE, split, value, *ends, None, None, *counts, None if arm["no_teacher"] else note, hover)


def _hover(arm: Json, metric: Metric, split: str, score: Json, tests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{arm['label']}: {metric.label.lower()}, {split} responses"
    if score["value"] is None:
        yield f"no value: {score['reason']}"
        return
    yield f"{format_unit(score['value'], metric.unit)} {format_interval(score['questions'], metric.unit)}".rstrip()
    if score["interval_reason"]:
        yield score["interval_reason"]
    if score["these_questions"]:
        yield f"on these questions only {format_interval(score['these_questions'], metric.unit)}"
    yield f"{score['n_nodes']:,} nodes, {score['n_questions']} questions"
    if metric.key == RANKING_METRIC.key and score["plain"] is not None:
        yield f"without the noise correction {format_unit(score['plain'], metric.unit)}"
    if score["at_half_visits"] is not None:
        yield f"at half the visits {format_unit(score['at_half_visits'], metric.unit)}"
    if score["reliability"] is not None:
        yield f"split-half reliability {format_unit(score['reliability'], 'cosine')}"
    for test in tests:
        yield from _test_line(test, metric)


def _test_line(test: Mapping[str, Any], metric: Metric) -> Iterator[str]:
    """Tests of this arm that speak of this metric, or of the arm as a whole."""
    family = str(test.get("family") or "")
    if ":" in family and family.split(":", 1)[1].strip() != metric.key:
        return
    against = f" ({test['against']})" if test.get("against") and str(test["against"]) not in family else ""
    name = family.split(":", 1)[0].replace("_", " ") + against
    if test.get("p") is None:
        return
    yield f"{name}: p = {format_number(test['p'])}, Holm {format_number(test.get('p_holm'))}"


def _tests_by_arm(summary: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    tests = summary.get("tests")
    for test in tests if isinstance(tests, list) else []:
        if isinstance(test, Mapping) and "teacher" in test:
            teacher, objective, _ = arm_key(test)
            found.setdefault((teacher, objective), []).append(test)
    return found
