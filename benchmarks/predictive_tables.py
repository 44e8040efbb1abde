"""The tables of the study of predictive validity in Markdown, from its small tables alone.

Gains are in points, after minus before. Intervals of rank correlations are 95 % percentiles over clusters drawn with
replacement: cells, or teachers with all their cells.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from benchmarks.predictive_aggregates import describe_aggregates, replace_private
from benchmarks.predictive_cells import BLOCKS, CELLS, PAPERS, PRIMARY, PRIVATE, SECOND
from benchmarks.predictive_gate import describe_gate, describe_leaders
from benchmarks.predictive_results import (
    Gain,
    estimate_gains,
    read_results,
    read_spent,
    score_names,
    trained_scores,
    whole_seeds,
)
from benchmarks.predictive_statistics import (
    Correlation,
    calibrate,
    choose,
    correlate,
    correlate_within,
    count_sign_errors,
    held_out_mean,
    mean_regret,
    predict_held_out,
    rank_correlation,
)
from benchmarks.predictive_tokens import describe_tokens
from benchmarks.study_tables import markdown_table
from hydrometer.evaluation.wording import points

NOTHING = ""
LOWER_IS_BETTER = ("entropy_gap", "reverse_kl")
"""Read with the other sign: the papers expect teachers close to the student to teach better."""
HAS_NO_ZERO = ("overlap_ratio", "student_overlap_mass", "teacher_overlap_mass", "entropy_gap", "reverse_kl")
HAS_NO_ZERO += ("teacher_accuracy", "new_knowledge")
"""No teacher does not stand at 0 of these."""
COMBINED = "combined"
COMBINED_FROM = (PRIMARY, SECOND, "reverse_kl", "accuracy_gain")
RIDGE = 1.0
LESSER = "lesser of path_advantage and pooled_cosine, teacher"
"""Not of the design: found when the first seed was in."""
KNOW_NOTHING = "mean of the other cells"
REPLACED = (PRIMARY, "path_advantage_with_harm, teacher", SECOND, "mean_signal, teacher", "accuracy_gain", PAPERS)
"""Scores that are shown with aggregates in the place of contexts of one question."""


class Evidence(NamedTuple):
    """Gains and scores of all cells, in the order of `CELLS`."""

    gains: Sequence[Gain]
    gain: Float[np.ndarray, " cell"]
    scores: Mapping[str, Float[np.ndarray, " cell"]]
    """Turned so that higher should be better."""
    blocks: Int[np.ndarray, " cell"]
    teachers: Int[np.ndarray, " cell"]


def weigh_evidence(tables: Mapping[str, pl.DataFrame]) -> Evidence:
    """Everything that the statistics need."""
    gains = estimate_gains(tables["answers"])
    gain = np.array([one.estimate.value for one in gains])
    teachers = np.unique([cell.teacher for cell in CELLS], return_inverse=True)[1]
    blocks = np.array([list(BLOCKS).index(cell.block) for cell in CELLS])
    raw = {name: trained_scores(tables["scores"], name) for name in score_names(tables["scores"])}
    scores = {name: -values if name in LOWER_IS_BETTER else values for name, values in raw.items()}
    combined = predict_held_out(np.stack([scores[name] for name in COMBINED_FROM], 1), gain, teachers, ridge=RIDGE)
    found = {COMBINED: combined, LESSER: np.minimum(scores[PRIMARY], scores[SECOND])}
    return Evidence(gains, gain, scores | found, blocks, teachers)


def describe_scores(evidence: Evidence) -> str:
    """One row per score, the highest rank correlation first."""
    head = ["score", "cells", "Spearman", "over cells", "over teachers", "within blocks", "regret"]
    head += ["sign errors", "slope", "error"]
    found = {name: rank_correlation(score, evidence.gain) for name, score in evidence.scores.items()}
    order = sorted(found, key=lambda name: (found[name] is None, -(found[name] or 0.0)))
    rows = [_score_row(evidence, name) for name in order]
    error = np.abs(held_out_mean(evidence.gain, evidence.teachers) - evidence.gain).mean()
    return markdown_table(head, [*rows, [KNOW_NOTHING, str(len(CELLS)), *[NOTHING] * 7, f"{100 * error:.1f}"]])


def _over(evidence: Evidence, name: str, *, by_teacher: bool) -> Correlation:
    clusters = evidence.teachers if by_teacher else np.arange(len(CELLS))
    return correlate(evidence.scores[name], evidence.gain, clusters, np.random.default_rng(7))


def _score_row(evidence: Evidence, name: str) -> list[str]:
    score, gain = evidence.scores[name], evidence.gain
    cells, teachers = (_over(evidence, name, by_teacher=flag) for flag in (False, True))
    has_zero = name not in HAS_NO_ZERO
    told = np.array([one.is_told for one in evidence.gains])
    signs = count_sign_errors(score, gain, told)
    line = calibrate(score, gain, evidence.teachers)
    error = float(np.abs(score - gain).mean()) if name == COMBINED else line.error
    return [
        _score_title(name),
        str(cells.n),
        _number(cells.value),
        _interval(cells),
        _interval(teachers),
        _number(correlate_within(score, gain, evidence.blocks)),
        _hundredths(mean_regret(score, gain, evidence.blocks, has_zero=has_zero)),
        f"{signs.promised} + {signs.warned} of {signs.of}" if has_zero else NOTHING,
        NOTHING if line.slope is None else f"{100 * line.slope * float(np.nanstd(score)):+.1f}",
        _hundredths(error),
    ]


def describe_replaced(evidence: Evidence, tables: Mapping[str, pl.DataFrame]) -> str:
    """Two rows per score: as it is, and with aggregates in the place of contexts of one question."""
    scores = replace_private(tables["scores"], tables["aggregates"])
    replaced = evidence._replace(scores={name: trained_scores(scores, name) for name in REPLACED})
    rows = []
    for name in REPLACED:
        for who, one in (("told", evidence), ("aggregate", replaced)):
            title, *correlations, _, regret, signs, _, _ = _score_row(one, name)
            rows.append([title, who, *correlations, regret, signs])
    head = ["score", "contexts of one question", "cells", "Spearman", "over cells", "over teachers", "regret"]
    return markdown_table([*head, "sign errors"], rows)


def describe_subsets(evidence: Evidence) -> str:
    """Rank correlations of the main scores over all cells and over two parts of them."""
    is_private = np.array([cell.teacher in PRIVATE for cell in CELLS])
    parts = {
        "all": np.ones(len(CELLS), dtype=bool),
        "without contexts of one question": ~is_private,
        "`reverse_kl` only": np.array([cell.objective == "reverse_kl" for cell in CELLS]),
    }
    names = (PRIMARY, SECOND, LESSER, "mean_signal, teacher", "mean_signal, student", PAPERS)
    rows = [
        [
            _score_title(name),
            *(_number(rank_correlation(evidence.scores[name][mine], evidence.gain[mine])) for mine in parts.values()),
        ]
        for name in (*names, "accuracy_gain", "teacher_accuracy", "teacher_overlap_mass", COMBINED)
    ]
    return markdown_table(["score", *(f"{title}, {int(mine.sum())} cells" for title, mine in parts.items())], rows)


def _score_title(name: str) -> str:
    score, _, who = name.partition(", ")
    if name == LESSER:
        return "lesser of `path_advantage` and `pooled_cosine`, teacher continues (found afterwards)"
    title = f"`{score}`" + (f", {who} continues" if who else "") + (" (low)" if score in LOWER_IS_BETTER else "")
    return f"**{title}**" if name in (PRIMARY, SECOND, PAPERS) else title


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}"


def _hundredths(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _interval(found: Correlation) -> str:
    return NOTHING if found.low is None or found.high is None else f"[{found.low:+.2f}, {found.high:+.2f}]"


def describe_cells(evidence: Evidence) -> str:
    """One row per cell: what it gained, and what the main scores had said."""
    head = ["block", "teacher", "objective", "before", "gain, points", "path advantage", "pooled cosine, teacher"]
    rows = []
    for place, one in enumerate(evidence.gains):
        said = [evidence.scores[name][place] for name in (PRIMARY, SECOND, PAPERS, "accuracy_gain", COMBINED)]
        rows.append(
            [
                one.cell.block,
                f"`{one.cell.teacher}`",
                one.cell.objective,
                f"{100 * one.before:.1f} %",
                points(one.estimate.describe()),
                *("null" if np.isnan(value) else f"{value:+.2f}" for value in said),
            ]
        )
    return markdown_table([*head, "pooled cosine, student", "accuracy gain of the teacher", "combined"], rows)


def describe_choices(evidence: Evidence) -> str:
    """What choosing by the main scores leads to, by block."""
    names = (PRIMARY, SECOND, PAPERS, "accuracy_gain", "teacher_accuracy", COMBINED, LESSER)
    rows = []
    for block, title in enumerate(BLOCKS):
        mine = np.flatnonzero(evidence.blocks == block)
        best = mine[evidence.gain[mine].argmax()]
        row = [title, f"`{CELLS[best].teacher}` {100 * evidence.gain[best]:+.1f}"]
        for name in names:
            found = choose(evidence.scores[name][mine], evidence.gain[mine], has_zero=name not in HAS_NO_ZERO)
            assert found is not None
            chosen = "no teacher" if found.chosen is None else f"`{CELLS[mine[found.chosen]].teacher}`"
            row.append(f"{chosen} {100 * found.gain:+.1f}")
        rows.append(row)
    return markdown_table(["block", "best", *map(_score_title, names)], rows)


def describe_splits(splits: pl.DataFrame) -> str:
    """In how many arms incorrect paths align better than correct ones, by who continues."""
    known = splits.drop_nulls(["correct", "incorrect"])
    rows = []
    for (metric, who), mine in known.group_by("metric", "continuation", maintain_order=True):
        lead = mine["incorrect"] - mine["correct"]
        counts = [_count_above(lead), *(_count_above(lead.filter(mine["block"] == name)) for name in BLOCKS)]
        rows.append([f"`{metric}`", str(who), *counts, f"{lead.median():+.3f}"])
    head = ["metric", "who continues", "arms where incorrect is higher", *BLOCKS, "median of incorrect minus correct"]
    return markdown_table(head, sorted(rows))


def _count_above(lead: pl.Series) -> str:
    return f"{int((lead > 0).sum())} of {len(lead)}"


def describe_values(values: pl.DataFrame) -> str:
    """The performance difference of every teacher, known and measured."""
    rows = []
    for row in values.iter_rows(named=True):
        pair = [
            f"{row[name]:+.2f} [{row[f'{name}_low']:+.2f}, {row[f'{name}_high']:+.2f}]"
            for name in ("difference", "measured")
        ]
        rows.append([row["block"], f"`{row['teacher']}`", *pair, "yes" if row["holds"] else "no"])
    return markdown_table(["block", "teacher", "known difference", "measured path sum", "bounds hold"], rows)


def describe_state(results: Path) -> str:
    """How much of the study the tables hold, and what it cost."""
    seeds = whole_seeds(read_results(results)["answers"])
    spent = read_spent(results)
    minutes = sum(row["cpu_s"] for row in spent) / 60
    kinds = ", ".join(f"{row['kind']} {row['runs']} ({row['cpu_s'] / 60:.0f} min)" for row in spent)
    return f"{len(CELLS)} cells, {len(seeds)} of 3 seeds whole. {minutes:.0f} CPU minutes: {kinds}."


def describe_all(results: Path) -> dict[str, str]:
    """Every table by the name of its place in the document."""
    tables = read_results(results)
    evidence = weigh_evidence(tables)
    made: Mapping[str, Callable[[], str]] = {
        "state": lambda: describe_state(results),
        "scores": lambda: describe_scores(evidence),
        "subsets": lambda: describe_subsets(evidence),
        "cells": lambda: describe_cells(evidence),
        "choices": lambda: describe_choices(evidence),
        "gate": lambda: describe_gate(evidence.gains, evidence.gain, evidence.blocks, tables["scores"]),
        "leaders": lambda: describe_leaders(evidence.gain, evidence.blocks, tables["scores"]),
        "aggregates": lambda: describe_aggregates(
            evidence.gains, tables["values"], tables["learnable"], tables["scores"], tables["aggregates"]
        ),
        "replaced": lambda: describe_replaced(evidence, tables),
        "splits": lambda: describe_splits(tables["splits"]),
        "values": lambda: describe_values(tables["values"]),
        "tokens": lambda: describe_tokens(tables["tokens"]) if "tokens" in tables else "Not run yet.",
    }
    return {name: make() for name, make in made.items()}


_PLACE = re.compile(r"(?<=<!-- predictive: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def fill_document(text: str, tables: Mapping[str, str]) -> str:
    """The document with its tables made anew, between `<!-- predictive: NAME -->` and `<!-- end -->`."""
    return _PLACE.sub(lambda place: f"{place[1]}{place[2]}{tables[place[1]]}\n", text)
