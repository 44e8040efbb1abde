"""What the study's scores say where contexts of one question are replaced by what a student can learn of them.

`aggregates-BLOCK` is one more diagnosis of a block, with `self+aggregate:CONTEXT` in place of each teacher that sees
a context of the question at hand. None of this was in the design: it was made when all gains were known.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from benchmarks.predictive_cells import BLOCKS, CELLS, DIAGNOSIS, OBJECTIVES, PAPERS, PRIMARY, PRIVATE, SECOND, TEACHERS
from benchmarks.predictive_results import Gain, trained_scores
from benchmarks.predictive_statistics import correlate, count_sign_errors, mean_regret
from benchmarks.study_arms import run_once
from benchmarks.study_tables import markdown_table
from hydrometer.diagnosis.run import diagnose
from hydrometer.evaluation.wording import points

SCORES = (PRIMARY, "path_advantage_with_harm, teacher", SECOND, "mean_signal, teacher", "accuracy_gain", PAPERS)


def diagnose_aggregates(out: Path, name: str) -> Path:
    """The diagnosis of what a block's contexts of one question can teach."""
    folder, block = out / f"aggregates-{name}", BLOCKS[name]
    teachers = [
        f"{teacher}={TEACHERS[teacher].replace('self+', 'self+aggregate:')}"
        for teacher in block.cells
        if teacher in PRIVATE
    ]
    options = {**DIAGNOSIS, "teacher": teachers, "objective": list(OBJECTIVES.values())}
    run_once(
        folder,
        lambda: diagnose(out=folder, student=block.student, task=block.task, resume=folder.exists(), **options),
    )
    return folder


def replace_private(scores: pl.DataFrame, aggregates: pl.DataFrame) -> pl.DataFrame:
    """The study's scores with those of aggregates for teachers that see a context of one question."""
    others = scores.filter(~pl.col("teacher").is_in(PRIVATE))
    return pl.concat([others, aggregates.select(scores.columns)])


def describe_aggregates(
    gains: Sequence[Gain], values: pl.DataFrame, learnable: pl.DataFrame, scores: pl.DataFrame, aggregates: pl.DataFrame
) -> str:
    """A row per cell with a context of one question: what it is worth to who is told, and to who is not."""
    replaced = replace_private(scores, aggregates)
    sums, cosines = ([trained_scores(table, name) for table in (scores, replaced)] for name in (PRIMARY, SECOND))
    rows = []
    for place, cell in enumerate(CELLS):
        if cell.teacher not in PRIVATE:
            continue
        known = [_difference(table, cell.block, cell.teacher) for table in (values, learnable)]
        said = [f"{_number(pair[0][place])}, {_number(pair[1][place])}" for pair in (sums, cosines)]
        rows.append([cell.block, f"`{cell.teacher}`", points(gains[place].estimate.describe()), *known, *said])
    head = ["block", "context", "gain of training", "worth, told", "worth of its aggregate"]
    return markdown_table([*head, "path sum: told, aggregate", "pooled cosine: told, aggregate"], rows)


def _difference(values: pl.DataFrame, block: str, teacher: str) -> str:
    row = values.row(by_predicate=(pl.col("block") == block) & (pl.col("teacher") == teacher), named=True)
    return f"{row['difference']:+.2f} [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"


def _title(name: str) -> str:
    score, _, who = name.partition(", ")
    return f"`{score}`" + (f", {who} continues" if who else "")


def _number(value: float) -> str:
    return "null" if np.isnan(value) else f"{value:+.2f}"


def describe_replaced(
    gains: Sequence[Gain],
    blocks: Int[np.ndarray, " cell"],
    teachers: Int[np.ndarray, " cell"],
    scores: pl.DataFrame,
    aggregates: pl.DataFrame,
) -> str:
    """A row per score: as it is, and with aggregates in the place of contexts of one question."""
    gain = np.array([one.estimate.value for one in gains])
    told = np.array([one.is_told for one in gains])
    tables: Mapping[str, pl.DataFrame] = {"told": scores, "aggregate": replace_private(scores, aggregates)}
    rows = []
    for name in SCORES:
        for title, table in tables.items():
            score = trained_scores(table, name)
            over = [correlate(score, gain, by, np.random.default_rng(7)) for by in (np.arange(len(CELLS)), teachers)]
            wrong = count_sign_errors(score, gain, told)
            regret = mean_regret(score, gain, blocks, has_zero=True)
            rows.append(
                [
                    _title(name),
                    title,
                    str(over[0].n),
                    f"{over[0].value:+.2f}",
                    *(f"[{one.low:+.2f}, {one.high:+.2f}]" for one in over),
                    "" if regret is None else f"{100 * regret:.1f}",
                    f"{wrong.promised} + {wrong.warned} of {wrong.of}",
                ]
            )
    head = ["score", "contexts of one question", "cells", "Spearman", "over cells", "over teachers", "regret"]
    return markdown_table([*head, "sign errors"], rows)
