"""What holding back teachers by their path sum would have done in the study: whom it stops, and whom it stops wrongly.

The rules are those of `hydrometer.alignment.gate`, by `path_advantage_with_harm` under either continuation:

    below   its interval lies below 0: the arm ranks below no teacher
    not above   its value is not above 0: where such an arm leads by its pooled cosine, nothing is recommended
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from benchmarks.predictive_cells import BLOCKS, CELLS
from benchmarks.predictive_results import Gain, trained_scores
from benchmarks.predictive_statistics import choose
from benchmarks.study_tables import markdown_table

GATE = "path_advantage_with_harm"
RANKED_BY = "pooled_cosine"
Stopped = Bool[np.ndarray, " cell"]


def stopped_cells(scores: pl.DataFrame, who: str) -> Mapping[str, Stopped]:
    """Which cells each rule stops where `who` continues, in the order of `CELLS`."""
    value = trained_scores(scores, f"{GATE}, {who}")
    ends = scores.with_columns(value=pl.col("high"))
    return {"interval below 0": trained_scores(ends, f"{GATE}, {who}") < 0.0, "not above 0": value <= 0.0}


def gated_regret(
    score: Float[np.ndarray, " cell"],
    gain: Float[np.ndarray, " cell"],
    blocks: Int[np.ndarray, " cell"],
    barred: Stopped,
    withheld: Stopped,
) -> float:
    """Mean over blocks of the best gain (or 0) minus that of the choice: barred cells cannot lead, withheld not win."""
    lost = []
    for block in np.unique(blocks):
        mine = np.flatnonzero(blocks == block)
        found = choose(np.where(barred[mine], -np.inf, score[mine]), gain[mine], has_zero=True)
        assert found is not None
        is_taken = found.chosen is not None and not withheld[mine[found.chosen]]
        lost.append(max(float(gain[mine].max()), 0.0) - (found.gain if is_taken else 0.0))
    return float(np.mean(lost))


def asked_again(
    gain: Float[np.ndarray, " cell"], blocks: Int[np.ndarray, " cell"], scores: pl.DataFrame, most: int
) -> list[float]:
    """Regret in every block where the student's ranking names `most` leaders and the teachers' ranking decides.

    As a run does it: nobody below no teacher is a leader, a leader whose own path sum is not above 0 is not taken.
    """
    lost = []
    first, then = (trained_scores(scores, f"{RANKED_BY}, {who}") for who in ("student", "teacher"))
    barred = [stopped_cells(scores, who)["interval below 0"] for who in ("student", "teacher")]
    withheld = stopped_cells(scores, "teacher")["not above 0"]
    standing = np.where(barred[0], -np.inf, np.nan_to_num(first, nan=-np.inf))
    second = np.where(barred[1], -np.inf, np.nan_to_num(then, nan=-np.inf))
    for block in np.unique(blocks):
        mine = np.flatnonzero(blocks == block)
        leaders = [place for place in mine[np.argsort(-standing[mine])][:most] if standing[place] > 0.0]
        chosen = max(leaders, key=lambda place: second[place], default=None)
        is_taken = chosen is not None and second[chosen] > 0.0 and not withheld[chosen]
        lost.append(max(float(gain[mine].max()), 0.0) - (float(gain[chosen]) if is_taken else 0.0))
    return lost


def describe_leaders(gain: Float[np.ndarray, " cell"], blocks: Int[np.ndarray, " cell"], scores: pl.DataFrame) -> str:
    """Regret by how many leaders are asked again, in points."""
    rows = []
    for most in (1, 2, 3, len(CELLS)):
        lost = [100 * one for one in asked_again(gain, blocks, scores, most)]
        title = str(most) if most < len(CELLS) else "all above no teacher"
        rows.append([title, *(f"{one:.1f}" for one in lost), f"{np.mean(lost):.1f}"])
    return markdown_table(["leaders asked again", *BLOCKS, "mean"], rows)


def describe_gate(
    gains: Sequence[Gain],
    gain: Float[np.ndarray, " cell"],
    blocks: Int[np.ndarray, " cell"],
    scores: pl.DataFrame,
) -> str:
    """A row per continuation and rule."""
    told = np.array([one.is_told for one in gains])
    nobody = np.zeros(len(CELLS), dtype=bool)
    rows = []
    for who in ("teacher", "student"):
        cosine = trained_scores(scores, f"{RANKED_BY}, {who}")
        below, not_above = stopped_cells(scores, who).values()
        rows.append([who, "none", *[""] * 4, f"{100 * gated_regret(cosine, gain, blocks, nobody, nobody):.1f}"])
        for rule, stopped, withheld in (
            ("interval below 0", below, nobody),
            ("not above 0", not_above, not_above),
        ):
            wrong = [
                f"`{CELLS[place].teacher}` in {CELLS[place].block}"
                for place in np.flatnonzero(stopped & told & (gain > 0.0))
            ]
            left = told & (gain < 0.0) & (cosine > 0.0)
            rows.append(
                [
                    who,
                    rule,
                    str(int(stopped.sum())),
                    str(int((stopped & told & (gain < 0.0)).sum())),
                    ", ".join(wrong) or "none",
                    f"{int((left & ~stopped).sum())} of {int(left.sum())}",
                    f"{100 * gated_regret(cosine, gain, blocks, below, withheld):.1f}",
                ]
            )
    head = ["who continues", "stopped where the path sum is", "cells", "of them lost", "of them gained"]
    return markdown_table([*head, "false promises of the cosine that are left", "regret"], rows)
