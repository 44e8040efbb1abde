"""Prefix corruption: is the teacher still right where it has to go on from what the student wrote?

    own        the teacher answers from the prompt
    continued  the teacher goes on from the student's response, cut after c of its n tokens,
               c = 1 + floor(u (n - 1)), u uniform on [0, 1) and seeded per question: 1 <= c < n

The same questions in both, one response each: right to wrong are the questions it solves from its own start alone, and
McNemar's exact test compares them with wrong to right (arXiv:2605.11182, appendix A.22). The share of responses that an
answer can be read from is compared in the same way. The length limit holds for prefix and continuation together.

Departures: the paper decodes greedily (`greedy`); by default everyone samples as in training.

    hydrometer probe prefix --student bundled:student --teacher expert=bundled:expert
"""

from itertools import chain
from typing import Any

import polars as pl

from hydrometer.evaluation.comparison import compare
from hydrometer.evaluation.wording import percent
from hydrometer.probes.estimates import share_of
from hydrometer.probes.findings import Findings
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
from hydrometer.probes.showing import show
from hydrometer.sampling import rollout_seed, uniforms

CUT = "cut"
"""The start of a response that continues a cut one."""
_LEVEL = 0.05


def probe_prefix(sitting: Sitting) -> Findings:
    """Ask the student, cut what it says, and let every teacher answer from both starts."""
    bench = sitting.bench
    asked = ask_all(bench)
    responses = write(sitting, bench.student, asked, [Start(question) for question in bench.questions], 1)
    cuts = {one.rollout.question_id: start for one in responses if (start := _cut(sitting, one)) is not None}
    demos = write_demonstrations(sitting, asked, are_needed=any(teacher.needs_demos for teacher in bench.teachers))
    analysed = {one.rollout.question_id: [one] for one in responses}
    written, found, skipped = [*responses, *chain(*demos.values())], {}, {}
    for teacher in bench.teachers:
        shown = show(teacher, [start.question for start in cuts.values()], demos, analysed)
        starts = [cuts[question_id] for question_id in shown.asked]
        own = write(sitting, bench.writers[teacher.name], shown.asked, [Start(start.question) for start in starts], 1)
        continued = write(sitting, bench.writers[teacher.name], shown.asked, starts, 1)
        tables = [tabulate(part, bench.config.grading) for part in (own, continued)]
        found[teacher.name] = shown.describe() | _describe(teacher.name, *tables)
        skipped[teacher.name] = shown.skipped
        written += own + continued
    uncut = len(responses) - len(cuts)
    return Findings(
        written,
        found,
        skipped,
        about={
            "student_accuracy": share_of(tabulate(responses, bench.config.grading), "correct").describe(),
            "uncut": uncut,
        },
        warnings=[f"{uncut} responses are too short to be cut and are left out."] if uncut else [],
    )


def _cut(sitting: Sitting, one: Written) -> Start | None:
    """The student's response, cut at random; None where it has no two tokens."""
    tokens = written_tokens(sitting, one.rollout)
    if len(tokens) < 2:
        return None
    seed = rollout_seed(sitting.bench.config.seed, f"cut\x1f{one.rollout.question_id}", 0)
    kept = 1 + int(uniforms(seed, 1)[0] * (len(tokens) - 1))
    return Start(one.start.question, CUT, tokens[:kept])


def _describe(name: str, own: pl.DataFrame, continued: pl.DataFrame) -> dict[str, Any]:
    outcome = compare(own, continued)
    parsed = pl.col("parsed").alias("correct")
    form = compare(own.with_columns(parsed), continued.with_columns(parsed))
    assert outcome.mcnemar is not None and form.mcnemar is not None  # one response each
    found = {
        "own_accuracy": share_of(own, "correct").describe(),
        "continued_accuracy": share_of(continued, "correct").describe(),
        "difference": outcome.difference.describe(),
        "right_to_wrong": outcome.mcnemar.only_first,
        "wrong_to_right": outcome.mcnemar.only_second,
        "mcnemar_p": outcome.mcnemar.p,
        "own_parsed": share_of(own, "parsed").describe(),
        "continued_parsed": share_of(continued, "parsed").describe(),
        "parsed_difference": form.difference.describe(),
        "parsed_mcnemar_p": form.mcnemar.p,
    }
    return found | {"verdict": _judge(name, found)}


def _judge(name: str, found: dict[str, Any]) -> str:
    lost, gained, p = found["right_to_wrong"], found["wrong_to_right"], found["mcnemar_p"]
    counts = f"{lost} right to wrong, {gained} wrong to right"
    if p is None or p >= _LEVEL:
        tested = "" if p is None else f", McNemar p = {p:.2g}"
        return f"No effect of the student's prefixes on {name} is separated from chance ({counts}{tested})."
    effect = "mislead" if lost > gained else "help"
    return (
        f"The student's prefixes {effect} {name}: {percent(found['own_accuracy'])} from its own start, "
        f"{percent(found['continued_accuracy'])} after them ({counts}, McNemar p = {p:.2g})."
    )
