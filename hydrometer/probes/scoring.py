"""What student and teachers say at every token of the student's responses: one journalled round per question.

The statistics are those of `hydrometer.dynamics` (docs/metrics.md), at the student's own temperature and nucleus; the
temperature applies to teachers too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch

from hydrometer.artifacts import build_table
from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.dynamics import TokenStats, compute_token_stats, join_stats
from hydrometer.models import walk_each, warp_logprobs
from hydrometer.probes.responses import Sitting, Written
from hydrometer.probes.showing import Shown
from hydrometer.runs.rollouts import Asked
from hydrometer.runs.rounds import Record
from hydrometer.types import Rollout

STATS = (
    "student_logprob",
    "teacher_logprob",
    "student_entropy",
    "teacher_entropy",
    "reverse_kl",
    "forward_kl",
    "overlap_ratio",
    "student_overlap_mass",
    "teacher_overlap_mass",
    "overlap_token_advantage",
)
"""Statistics of a token that are kept, by their names in `TokenStats`."""


def score_responses(
    sitting: Sitting,
    asked: Mapping[str, Asked],
    responses: Mapping[str, Sequence[Written]],
    shown: Mapping[str, Shown],
    *,
    k: int,
) -> pl.DataFrame:
    """The rows of `tokens.parquet`: one per token of the responses and teacher.

    Args:
        sitting: of the probe.
        asked: the student's prompts by question.
        responses: of the student, by question.
        shown: prompts by teacher.
        k: size of the sets of most probable tokens.
    """
    sitting.progress.stage("scoring", len(responses))
    frames = []
    for question_id, written in responses.items():
        views = {name: one.asked[question_id] for name, one in shown.items() if question_id in one.asked}
        rollouts = [one.rollout for one in written]
        record = sitting.rounds.run(
            "score",
            [question_id, len(rollouts), *views],
            lambda a=asked[question_id], v=views, r=rollouts: _score(sitting, a, v, r, k),
        )
        arrays = decode_arrays(record["arrays"])
        frames += [_frame(name, number, rollouts, arrays) for number, name in enumerate(views)]
        sitting.progress.advance(1)
    return build_table("probe_tokens", pl.concat(frames))


def _score(sitting: Sitting, asked: Asked, views: Mapping[str, Asked], rollouts: Sequence[Rollout], k: int) -> Record:
    bench = sitting.bench
    models = {teacher.name: teacher.model for teacher in bench.teachers}
    parts: dict[str, list[TokenStats]] = {name: [] for name in views}
    sides = [(bench.student.model, asked), *((models[name], view) for name, view in views.items())]
    responses = [rollout.token_ids for rollout in rollouts]
    each = [walk_each(model, side.prompt_ids, responses) for model, side in sides]
    for rollout, *walks in zip(rollouts, *each, strict=True):
        start = 0
        for student, *teachers in zip(*walks, strict=True):
            p = warp_logprobs(student, bench.warp)
            tokens = torch.tensor(rollout.token_ids[start : start + len(p)], device=p.device)
            for name, logits in zip(views, teachers, strict=True):
                q = warp_logprobs(logits, bench.warp._replace(top_p=1.0))
                parts[name].append(compute_token_stats(p, q, tokens, k=k))
            start += len(p)
    joined = [join_stats(stats) for stats in parts.values()]
    arrays = {f"{i}/{name}": getattr(stats, name).cpu().numpy() for i, stats in enumerate(joined) for name in STATS}
    scored = (1 + len(views)) * sum(len(rollout.token_ids) for rollout in rollouts)
    return {"scored_tokens": scored, "arrays": encode_arrays(arrays)}


def _frame(teacher: str, number: int, rollouts: Sequence[Rollout], arrays: Mapping[str, np.ndarray]) -> pl.DataFrame:
    stats = {name: arrays[f"{number}/{name}"].astype(np.float64) for name in STATS}
    stats["forward_kl"] = np.where(np.isinf(stats["forward_kl"]), np.nan, stats["forward_kl"])  # outside a nucleus
    return place_tokens(teacher, rollouts, stats)


def place_tokens(teacher: str, rollouts: Sequence[Rollout], columns: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Values of the tokens of one question's responses (the n-th is sample n), with whose and where they are."""
    lengths = [len(rollout.token_ids) for rollout in rollouts]
    return pl.DataFrame(
        {
            "question_id": [rollout.question_id for rollout in rollouts for _ in rollout.token_ids],
            "sample": np.repeat(np.arange(len(rollouts)), lengths),
            "position": np.concatenate([np.arange(length) for length in lengths]),
            "teacher": [teacher] * sum(lengths),
            "response_tokens": np.repeat(lengths, lengths),
            "token_id": [token for rollout in rollouts for token in rollout.token_ids],
            **columns,
        }
    )
