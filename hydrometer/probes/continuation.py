"""Continuation advantage by depth: what does the teacher still gain where it takes over from the student?

One response of the student per question is cut at several depths. At each, student and teacher continue the same prefix
with the same random numbers; per question

    advantage = share of right continuations by the teacher - the same by the student

(arXiv:2604.13016, section 6.1: it falls as the prefix grows.) Depths are tokens or shares of the response. A number of
tokens is reached by long responses only, and hard questions have long ones: trends over tokens are therefore over the
questions that reach every depth of that kind. Beside it stands how likely the teacher finds the same responses
(`likelihood`).

    hydrometer probe continuation --student bundled:student --teacher expert=bundled:expert --depth 25% --depth 75%
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import polars as pl

from hydrometer.evaluation.wording import points
from hydrometer.probes.config import ContinuationConfig, Depth, parse_depth
from hydrometer.probes.estimates import estimate_trend, paired_difference, share_of
from hydrometer.probes.findings import Findings
from hydrometer.probes.likelihood import describe_likelihood
from hydrometer.probes.responses import (
    Sitting,
    Start,
    Written,
    ask_all,
    tabulate,
    write,
    write_demonstrations,
    written_tokens,
)
from hydrometer.probes.scoring import score_responses
from hydrometer.probes.showing import show

_K = 16
"""Of the overlap columns in `tokens.parquet` (arXiv:2604.13016)."""


def probe_continuation(sitting: Sitting) -> Findings:
    """Ask the student, cut what it says at every depth, and let everyone continue."""
    bench = sitting.bench
    config = bench.config
    assert isinstance(config, ContinuationConfig)
    asked = ask_all(bench)
    responses = write(sitting, bench.student, asked, [Start(question) for question in bench.questions], 1)
    analysed = {one.rollout.question_id: [one] for one in responses}
    depths = [parse_depth(text) for text in config.depth]
    starts = [start for one in responses for start in _cut(sitting, one, depths)]
    demos = write_demonstrations(sitting, asked, are_needed=any(teacher.needs_demos for teacher in bench.teachers))
    by_student = write(sitting, bench.student, asked, starts, config.samples)
    shown = {teacher.name: show(teacher, bench.questions, demos, analysed) for teacher in bench.teachers}
    by_teacher = {
        name: write(
            sitting,
            bench.writers[name],
            one.asked,
            [start for start in starts if start.question.question_id in one.asked],
            config.samples,
        )
        for name, one in shown.items()
    }
    tokens = score_responses(sitting, asked, analysed, shown, k=_K)
    student = tabulate(by_student, config.grading)
    found = {}
    for name, written in by_teacher.items():
        about = _describe_depths(name, tabulate(written, config.grading), student, depths)
        text = describe_likelihood(tokens.filter(teacher=name), config.low_density, config.max_response_tokens)
        found[name] = shown[name].describe() | {"text": text} | about
    return Findings(
        [*responses, *chain(*demos.values()), *by_student, *chain(*by_teacher.values())],
        found,
        {name: one.skipped for name, one in shown.items()},
        about={"student_accuracy": share_of(tabulate(responses, config.grading), "correct").describe()},
        tables={"tokens": tokens},
    )


def _cut(sitting: Sitting, one: Written, depths: Sequence[Depth]) -> list[Start]:
    """The starts that one response gives; those that it is too short for are left out."""
    tokens = written_tokens(sitting, one.rollout)
    cuts = [(depth.label, depth.cut(len(tokens))) for depth in depths]
    return [Start(one.start.question, label, tokens[:kept]) for label, kept in cuts if kept is not None]


def _describe_depths(
    name: str, teacher: pl.DataFrame, student: pl.DataFrame, depths: Sequence[Depth]
) -> dict[str, Any]:
    """Advantage at every depth, and its trend over each kind of depth."""
    student = student.join(teacher.select("question_id", "start").unique(), on=["question_id", "start"], how="semi")
    at = []
    for depth in depths:
        mine, theirs = teacher.filter(start=depth.label), student.filter(start=depth.label)
        if mine.is_empty():
            at.append({"depth": depth.label, "questions": 0, "advantage": None})
            continue
        at.append(
            {
                "depth": depth.label,
                "questions": mine["question_id"].n_unique(),
                "prefix_tokens": float(mine["prefix_tokens"].cast(pl.Float64).mean()),  # pyright: ignore[reportArgumentType]
                "teacher_accuracy": share_of(mine, "correct").describe(),
                "student_accuracy": share_of(theirs, "correct").describe(),
                "advantage": paired_difference(mine, theirs, "correct").describe(),
            }
        )
    kinds = {
        "tokens": {depth.label: float(depth.tokens) for depth in depths if depth.tokens is not None},
        "share": {depth.label: depth.share for depth in depths if depth.share is not None},
    }
    trends = {kind: _trend(teacher, student, labels) for kind, labels in kinds.items()}
    return {"depths": at, "trends": trends, "verdict": _judge(name, trends)}


def _trend(teacher: pl.DataFrame, student: pl.DataFrame, labels: Mapping[str, float]) -> dict[str, Any] | None:
    """Over the questions that reach all of these depths; None with fewer than two depths, or no such question."""
    means = [
        table.filter(pl.col("start").is_in(list(labels)))
        .group_by("question_id", "start")
        .agg(pl.col("correct").cast(pl.Float64).mean())
        for table in (teacher, student)
    ]
    both = means[0].join(means[1], on=["question_id", "start"], suffix="_student")
    both = both.filter(pl.len().over("question_id") == len(labels)).with_columns(
        (pl.col("correct") - pl.col("correct_student")).alias("advantage"),
        pl.col("start").replace_strict(dict(labels), return_dtype=pl.Float64).alias("depth"),
    )
    if len(labels) < 2 or both.is_empty():
        return None
    both = both.sort("question_id", "depth")
    first, last = min(labels, key=lambda label: labels[label]), max(labels, key=lambda label: labels[label])
    change = paired_difference(both.filter(start=last), both.filter(start=first), "advantage")
    spearman = estimate_trend(both["advantage"].to_numpy(), both["depth"].to_numpy(), both["question_id"].to_list())
    return {"first": first, "last": last, "spearman": spearman, "change": change.describe()}


def _judge(name: str, trends: Mapping[str, dict[str, Any] | None]) -> str:
    said = [_judge_trend(trend) for trend in trends.values() if trend is not None]
    if not said:
        return f"The advantage of {name} was looked at in too few depths for a trend."
    return f"What {name} gains over the student by taking over: {'; '.join(said)}."


def _judge_trend(trend: Mapping[str, Any]) -> str:
    change = trend["change"]
    told = f"{points(change)} from depth {trend['first']} to {trend['last']}"
    if change["low"] is None:
        return f"{told}, without an interval"
    if change["low"] <= 0.0 <= change["high"]:
        return f"no trend is separated from chance ({told})"
    return f"it {'falls' if change['high'] < 0.0 else 'rises'} ({told})"
