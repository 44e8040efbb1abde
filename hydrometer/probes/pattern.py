"""Thinking pattern and new knowledge: is the teacher near enough to be followed, and is there something to follow?

Pattern, on the student's own responses before training (docs/metrics.md, arXiv:2604.13016): overlap of the k most
probable tokens, the probability that both put on the shared ones, |entropy difference|, KL(student || teacher).

New knowledge, from n responses of each to each question, of which c_s and c_t are right; unbiased per question:

    gained@K = pass_t@K (1 - pass_s@K),   lost@K = pass_s@K (1 - pass_t@K),   pass@K = 1 - C(n - c, K) / C(n, K)

With K = n: the share of questions that one solves in n tries and the other never does. gained@K alone is above 0 for
two equal models too (each misses some by chance); their difference, pass_t@K - pass_s@K, is not.

Thresholds of the verdict are what arXiv:2604.13016 reports of runs that succeeded (k = 16, vocabularies of 150,000):
masses of 0.97-0.99 throughout, an overlap of 0.72 at the start that rose to 0.91. They were never tested as thresholds.
The masses decide: where a model is sure of its next token, most of the k are tokens without probability, and the
overlap counts them all the same.

    hydrometer probe pattern --student bundled:student --teacher expert=bundled:expert --k 4
"""

from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from hydrometer.evaluation.comparison import compare
from hydrometer.evaluation.statistics import estimate_difference, estimate_share, pass_at, pass_sizes
from hydrometer.evaluation.wording import percent, points
from hydrometer.probes.config import PatternConfig
from hydrometer.probes.estimates import estimate_tokens, share_of
from hydrometer.probes.findings import Findings
from hydrometer.probes.responses import Sitting, Start, ask_all, by_question, tabulate, write, write_demonstrations
from hydrometer.probes.scoring import score_responses
from hydrometer.probes.showing import show

OVERLAP = 0.7
"""Overlap ratio below which it is said that the overlap is low."""
MASS = 0.95
"""Overlap mass that both have to reach to write alike."""
_TOKENS = (
    "overlap_ratio",
    "student_overlap_mass",
    "teacher_overlap_mass",
    "overlap_token_advantage",
    "student_entropy",
    "teacher_entropy",
    "reverse_kl",
    "teacher_logprob",
)


def probe_pattern(sitting: Sitting) -> Findings:
    """Let everyone answer, and compare every teacher with the student on what the student wrote."""
    bench = sitting.bench
    config = bench.config
    assert isinstance(config, PatternConfig)
    asked = ask_all(bench)
    starts = [Start(question) for question in bench.questions]
    own = write(sitting, bench.student, asked, starts, config.samples)
    responses = by_question(own)
    demos = write_demonstrations(sitting, asked, are_needed=any(teacher.needs_demos for teacher in bench.teachers))
    shown = {teacher.name: show(teacher, bench.questions, demos, responses) for teacher in bench.teachers}
    student = tabulate(own, config.grading)
    written, found = [*own, *chain(*demos.values())], {}
    for name, one in shown.items():
        asking = [start for start in starts if start.question.question_id in one.asked]
        theirs = write(sitting, bench.writers[name], one.asked, asking, config.samples)
        written += theirs
        found[name] = one.describe() | _describe_knowledge(tabulate(theirs, config.grading), student, config.samples)
    tokens = score_responses(sitting, asked, responses, shown, k=config.k)
    for name, said in found.items():
        said["pattern"] = _describe_pattern(tokens.filter(teacher=name))
        said["verdict"] = _judge(name, said, config.samples)
    return Findings(
        written,
        found,
        {name: one.skipped for name, one in shown.items()},
        about={"student_accuracy": share_of(student, "correct").describe(), "samples": config.samples, "k": config.k},
        tables={"tokens": tokens},
    )


def _describe_pattern(tokens: pl.DataFrame) -> dict[str, dict[str, Any]]:
    gap = (pl.col("teacher_entropy") - pl.col("student_entropy")).abs()
    return estimate_tokens(tokens, {name: pl.col(name) for name in _TOKENS} | {"entropy_gap": gap})


def _describe_knowledge(teacher: pl.DataFrame, student: pl.DataFrame, samples: int) -> dict[str, Any]:
    """Who solves what, over the questions that the teacher was asked."""
    student = student.join(teacher.select("question_id").unique(), on="question_id", how="semi")
    counts = [
        table.group_by("question_id").agg(pl.col("correct").cast(pl.Int64).sum()).sort("question_id")["correct"]
        for table in (teacher, student)
    ]
    right_t, right_s = (column.to_numpy() for column in counts)
    asked = np.full(len(right_t), samples, dtype=np.int64)
    at = {}
    for size in pass_sizes(samples):
        t, s = pass_at(right_t, asked, size), pass_at(right_s, asked, size)
        at[str(size)] = {
            "teacher": estimate_share(t).describe(),
            "student": estimate_share(s).describe(),
            "gained": estimate_share(t * (1.0 - s)).describe(),
            "lost": estimate_share(s * (1.0 - t)).describe(),
            "difference": estimate_difference(t - s).describe(),
        }
    solved = [(right_t > 0) & (right_s == 0), (right_s > 0) & (right_t == 0)]
    return {
        "teacher_accuracy": share_of(teacher, "correct").describe(),
        "accuracy_difference": compare(teacher, student).difference.describe(),
        "pass_at": at,
        "only_teacher_solves": int(solved[0].sum()),
        "only_student_solves": int(solved[1].sum()),
    }


def _judge(name: str, said: dict[str, Any], samples: int) -> str:
    pattern = said["pattern"]
    overlap, *masses = (pattern[key] for key in ("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass"))
    least = min(masses, key=lambda mass: mass["value"])
    told = f"overlap {overlap['value']:.2f}, shared mass {least['value']:.3f}"
    if least["value"] < MASS:
        near = f"{name} has another thinking pattern ({told}, {MASS} is wanted): try a cold start or its template first"
    elif overlap["value"] < OVERLAP:
        near = f"{name} writes like the student where it matters ({told}): what they do not share has hardly any mass"
    else:
        near = f"{name} writes like the student ({told})"
    size = pass_sizes(samples)[-1]
    found = said["pass_at"][str(size)]
    gain = found["difference"]
    if gain["low"] is not None and gain["low"] > 0.0:
        knows = f"and solves what the student does not: pass@{size} {points(gain)}"
    elif gain["high"] is not None and gain["high"] < 0.0:
        knows = f"and solves less than the student: pass@{size} {points(gain)}"
    else:
        knows = f"and no new knowledge is separated from chance: pass@{size} {percent(found['teacher'])} against "
        knows += percent(found["student"])
    return f"{near}; {knows}."
