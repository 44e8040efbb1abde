"""Aggregation gap: how much of a privileged-information design's loss no student can ever remove.

At every token of the student's responses: -log Z over the contexts that the student cannot tell apart (`instances`) and
the student's mean KL to the teacher under them (`mixture`), averaged over tokens; nats per token. 0 says that whatever
the context is, the teacher says the same; a shared rule is 0 by definition. The rest of the KL can be learnt.

    hydrometer probe aggregation --student bundled:student --teacher self+answer --teacher "self+rule:Check every step."

Limits: the prefixes are those of today's student; the belief is the student's at the prompt, not after the prefix; from
n equally likely contexts -log Z comes out too small, by the factor (n - 1) / n where it is small.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import torch

from hydrometer.artifacts import build_table
from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.models import CausalModel, walk_logits, warp_logprobs
from hydrometer.probes.config import AggregationConfig
from hydrometer.probes.estimates import estimate_tokens
from hydrometer.probes.findings import Findings
from hydrometer.probes.mixture import Gaps, compute_gaps
from hydrometer.probes.responses import Sitting, Start, Written, ask_all, by_question, write, write_demonstrations
from hydrometer.probes.scoring import place_tokens
from hydrometer.probes.showing import refuse_empty
from hydrometer.runs.rollouts import Asked, ask_teacher
from hydrometer.runs.rounds import Record
from hydrometer.teachers import Belief, blank_text, build_instances, draws_from_student
from hydrometer.types import Question, Rollout, WeightedPrompt

_AGREES = 1e-3
"""Nats per token below which the contexts are said to agree."""


def probe_aggregation(sitting: Sitting) -> Findings:
    """Ask the student, build the contexts that it cannot tell apart, and compare what the teacher says under each."""
    bench = sitting.bench
    config = bench.config
    assert isinstance(config, AggregationConfig)
    asked = ask_all(bench)
    starts = [Start(question) for question in bench.questions]
    written = write(sitting, bench.student, asked, starts, config.samples)
    belief = write_demonstrations(
        sitting, asked, are_needed=any(draws_from_student(one.context, one.frame) for one in bench.teachers)
    )
    responses = by_question(written)
    designs, skipped = _build_designs(sitting, belief, responses)
    table = _compare(sitting, asked, responses, designs)
    found = {}
    for teacher in bench.teachers:
        mine = designs[teacher.name]
        counts = [len(instances) for instances in mine.values()]
        found[teacher.name] = {
            "questions": len(mine),
            "skipped": len(skipped[teacher.name]),
            "contexts": float(np.mean(counts)),
            "one_context": sum(count == 1 for count in counts),
        } | _describe(teacher.name, table.filter(teacher=teacher.name), is_shared=max(counts) == 1)
    return Findings([*written, *chain(*belief.values())], found, skipped, tables={"disagreement": table})


def _build_designs(
    sitting: Sitting, belief: Mapping[str, Sequence[Written]], responses: Mapping[str, Sequence[Written]]
) -> tuple[dict[str, dict[str, tuple[WeightedPrompt, ...]]], dict[str, dict[str, str]]]:
    """The contexts by teacher and question, and why there are none where there are none."""
    bench = sitting.bench
    config = bench.config
    assert isinstance(config, AggregationConfig)
    designs: dict[str, dict[str, tuple[WeightedPrompt, ...]]] = {}
    skipped: dict[str, dict[str, str]] = {}
    for teacher in bench.teachers:
        mine, without = designs.setdefault(teacher.name, {}), skipped.setdefault(teacher.name, {})
        for question in bench.questions:
            name = question.question_id
            built = build_instances(
                teacher.context,
                teacher.frame,
                question,
                [Belief(one.rollout, one.drawn.grades.under(config.grading).parsed) for one in belief.get(name, ())],
                refuse=[one.rollout for one in responses[name]],
                rules=config.rule,
                blank=partial(blank_text, teacher.model),
            )
            if built.reason is None:
                mine[name] = ask_teacher(teacher.model, built).mixture
            else:
                without[name] = built.reason
        refuse_empty(teacher, mine, without)
    return designs, skipped


def _compare(
    sitting: Sitting,
    asked: Mapping[str, Asked],
    responses: Mapping[str, Sequence[Written]],
    designs: Mapping[str, Mapping[str, tuple[WeightedPrompt, ...]]],
) -> pl.DataFrame:
    """The rows of `disagreement.parquet`, one journalled round per question."""
    bench = sitting.bench
    sitting.progress.stage("comparing contexts", len(bench.questions))
    frames = []
    for question in bench.questions:
        rollouts = [one.rollout for one in responses[question.question_id]]
        mine = {name: by[question.question_id] for name, by in designs.items() if question.question_id in by}
        key = [question.question_id, len(rollouts), *(f"{name}\x1f{len(found)}" for name, found in mine.items())]
        record = sitting.rounds.run(
            "contexts", key, lambda q=question, r=rollouts, m=mine: _score(sitting, asked, q, r, m)
        )
        arrays = decode_arrays(record["arrays"])
        for number, (name, found) in enumerate(mine.items()):
            columns = {column: arrays[f"{number}/{column}"] for column in Gaps._fields}
            contexts = np.full(len(columns["disagreement"]), len(found))
            frames.append(place_tokens(name, rollouts, columns | {"contexts": contexts}))
        sitting.progress.advance(1)
    return build_table("probe_disagreement", pl.concat(frames))


def _score(
    sitting: Sitting,
    asked: Mapping[str, Asked],
    question: Question,
    rollouts: Sequence[Rollout],
    designs: Mapping[str, tuple[WeightedPrompt, ...]],
) -> Record:
    models = {teacher.name: teacher.model for teacher in sitting.bench.teachers}
    own = asked[question.question_id].prompt_ids
    arrays, scored = {}, 0
    for number, (name, instances) in enumerate(designs.items()):
        parts = [_gaps(sitting, own, models[name], instances, rollout) for rollout in rollouts]
        for place, column in enumerate(Gaps._fields):
            arrays[f"{number}/{column}"] = np.concatenate([part[place].cpu().numpy() for part in parts])
        scored += (1 + len(instances)) * sum(len(rollout.token_ids) for rollout in rollouts)
    return {"scored_tokens": scored, "arrays": encode_arrays(arrays)}


def _gaps(
    sitting: Sitting, own: tuple[int, ...], model: CausalModel, instances: Sequence[WeightedPrompt], rollout: Rollout
) -> Gaps:
    """At every token of one response."""
    bench = sitting.bench
    walks = [walk_logits(bench.student.model, own, rollout.token_ids)]
    walks += [walk_logits(model, instance.prompt_ids, rollout.token_ids) for instance in instances]
    parts = []
    for student, *teachers in zip(*walks, strict=True):
        p = warp_logprobs(student.double(), bench.warp)
        q = torch.stack([warp_logprobs(logits.double(), bench.warp._replace(top_p=1.0)) for logits in teachers])
        weights = torch.tensor([instance.weight for instance in instances], dtype=q.dtype, device=q.device)
        parts.append(compute_gaps(p, q, weights))
    return Gaps(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _describe(name: str, table: pl.DataFrame, *, is_shared: bool) -> dict[str, Any]:
    both = {column: pl.col(column) for column in Gaps._fields}
    found = estimate_tokens(table, both | {"learnable": pl.col("student_kl") - pl.col("disagreement")})
    lost, kl = found["disagreement"]["value"], found["student_kl"]["value"]
    share = lost / kl if kl else None
    return found | {"share_lost": share, "verdict": _judge(name, lost, share, is_shared)}


def _judge(name: str, lost: float, share: float | None, is_shared: bool) -> str:
    if is_shared:
        return f"{name} shows the same context to whatever the student cannot tell apart: all of its KL can be learnt."
    part = "" if share is None else f", {100 * share:.0f} % of the KL that training would minimise"
    if lost < _AGREES:
        return f"{name} says nearly the same whatever context stands there: -log Z is {lost:.2g} nats per token{part}."
    return (
        f"{name} contradicts itself across contexts that the student cannot tell apart: {lost:.3f} nats per token"
        f"{part} can never be learnt, and what can is a compromise between them."
    )
