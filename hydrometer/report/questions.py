"""Questions as rows of a table: how often the student is right, and what the teachers say of each.

    pooled cosine of a question and arm = sum g.d / sqrt(sum |g|^2 sum |d|^2)    over its measured nodes

without the correction for noise that the ranking has: one question holds too few nodes for it. Disagreement of the
teachers under an objective: mean over the nodes where two teachers or more have a cosine of max cosine - min cosine.
"""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import polars as pl

from hydrometer.report.figures import rounded
from hydrometer.report.files import RunFiles
from hydrometer.report.visible import visible_text
from hydrometer.types import STUDENT

Json = dict[str, Any]
PROMPT_CHARACTERS = 160
FEWEST_SHARED = 30
_ARM = ["teacher", "objective"]
_NODE = ["question_id", "rollout_id", "position", "continuation"]


def build_questions(files: RunFiles, arms: Sequence[tuple[str, str]]) -> Json:
    """`arms` and `objectives` by name, and a row per question with values in their order (null: none)."""
    objectives = list(dict.fromkeys(objective for _, objective in arms))
    weights = files.nodes.select(*_NODE, (pl.col("path_weight") * pl.col("node_weight")).alias("weight"))
    own = files.alignment.filter(pl.col("continuation") == STUDENT).join(weights, on=_NODE, how="left")
    cosines = _pooled_cosines(own)
    disagreement = _disagreement(own)
    measured = dict(
        files.nodes.filter(pl.col("continuation") == STUDENT, pl.col("kept_candidates") >= 2)
        .group_by("question_id")
        .len()
        .iter_rows()
    )
    shared = _shared_start(files.questions["prompt"].drop_nulls().to_list())
    rows = [
        {
            "id": visible_text(row["question_id"], 300),
            "prompt": visible_text(_shortened(row["prompt"] or "", shared)),
            "success": [rounded(row[name]) for name in ("success_rate", "success_low", "success_high")],
            "rollouts": row["rollouts"],
            "informative": row["informative"],
            "measured": measured.get(row["question_id"], 0),
            "cosines": [cosines.get((row["question_id"], *arm)) for arm in arms],
            "disagreement": [disagreement.get((row["question_id"], name)) for name in objectives],
        }
        for row in files.questions.sort("question_id").iter_rows(named=True)
    ]
    return {
        "arms": [[visible_text(name) for name in arm] for arm in arms],
        "objectives": [visible_text(name) for name in objectives],
        "rows": rows,
    }


def _shortened(prompt: str, shared: int) -> str:
    """A prompt on one line, without what all prompts begin with."""
    rest = textwrap.shorten(prompt[shared:], PROMPT_CHARACTERS, placeholder=" …")
    return f"… {rest}" if shared else rest


def _shared_start(prompts: Sequence[str]) -> int:
    """Characters that all prompts begin with (a task's instruction), up to a word's end; 0 where they are few."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    end = max((place + 1 for place, (character, _) in enumerate(alike) if character.isspace()), default=0)
    return end if end >= FEWEST_SHARED else 0


def _pooled_cosines(alignment: pl.DataFrame) -> dict[tuple[str, ...], float | None]:
    weight = pl.col("weight")
    squares = [(weight * pl.col(f"{name}_norm").pow(2)).sum() for name in ("ideal", "direction")]
    product = (weight * pl.col("inner_product")).sum()
    frame = alignment.group_by("question_id", *_ARM).agg(
        product.alias("product"), (squares[0] * squares[1]).sqrt().alias("size")
    )
    return {
        (question, teacher, objective): rounded(product / size, 3) if size else None
        for question, teacher, objective, product, size in frame.iter_rows()
    }


def _disagreement(alignment: pl.DataFrame) -> dict[tuple[str, ...], float | None]:
    span = pl.col("cosine").max() - pl.col("cosine").min()
    frame = (
        alignment.drop_nulls("cosine")
        .group_by("question_id", "rollout_id", "position", "objective")
        .agg(span.alias("span"), pl.len().alias("teachers"))
        .filter(pl.col("teachers") > 1)
        .group_by("question_id", "objective")
        .agg(pl.col("span").mean())
    )
    return {(question, objective): rounded(span, 3) for question, objective, span in frame.iter_rows()}
