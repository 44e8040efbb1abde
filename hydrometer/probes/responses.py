"""Responses of a probe: who writes from where, drawn in journalled rounds, graded, and put into one table.

Everyone who writes from the same start uses the same random numbers, so that two writers are compared with less noise.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from hydrometer.artifacts import build_table
from hydrometer.probes.setup import Bench
from hydrometer.runs.drawing import Writer, draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Asked, Drawn, Order, ask
from hydrometer.runs.rounds import Rounds
from hydrometer.sampling import rollout_seed
from hydrometer.types import Grading, Question, Rollout, RolloutKind, VerifierFailure

PROMPT = "prompt"
"""The start of a response that is written from its beginning."""
DEMO = "demo"
"""The same of a rollout that contexts are built from."""


class Start(NamedTuple):
    """Where a response begins to be free."""

    question: Question
    label: str = PROMPT
    """`prompt`, `demo`, or where the student's response was cut."""
    prefix_ids: tuple[int, ...] = ()
    """What is left of it."""


class Written(NamedTuple):
    """One response."""

    start: Start
    sample: int
    """Counted from 0 within its start and writer."""
    drawn: Drawn

    @property
    def rollout(self) -> Rollout:
        """With its prefix."""
        return self.drawn.rollout


class Sitting(NamedTuple):
    """What a running probe works with."""

    bench: Bench
    rounds: Rounds
    progress: Progress


def ask_all(bench: Bench) -> dict[str, Asked]:
    """The student's prompts by question."""
    return {question.question_id: ask(bench.student.model, question.prompt) for question in bench.questions}


def write(
    sitting: Sitting,
    writer: Writer,
    asked: Mapping[str, Asked],
    starts: Sequence[Start],
    samples: int,
    *,
    kind: RolloutKind = "base",
) -> list[Written]:
    """`samples` responses from every start, in the order of the starts.

    Args:
        sitting: of the probe.
        writer: who writes.
        asked: its prompts by question.
        starts: where from.
        samples: responses from each.
        kind: of the rollouts.
    """
    bench, rounds, progress = sitting
    places = [(start, number) for start in starts for number in range(samples)]
    orders = [
        Order(
            start.question,
            asked[start.question.question_id].prompt_ids,
            place,
            kind,
            rollout_seed(bench.config.seed, f"{start.label}\x1f{start.question.question_id}", number),
            start.prefix_ids,
            model=writer.name,
            is_thinking=asked[start.question.question_id].is_thinking,
        )
        for place, (start, number) in enumerate(places)
    ]
    progress.stage(f"responses of {writer.name}", len(orders))
    drawn = draw_in_rounds(
        "probe",
        orders,
        writer,
        bench.grader,
        rounds,
        progress,
        max_tokens=bench.config.max_response_tokens,
        key=[writer.name, starts[0].label],
    )
    return [Written(*place, one) for place, one in zip(places, drawn, strict=True)]


def write_demonstrations(sitting: Sitting, asked: Mapping[str, Asked], *, are_needed: bool) -> dict[str, list[Written]]:
    """Rollouts of the student that contexts are built from, by question; none where no context shows any."""
    bench = sitting.bench
    if not are_needed:
        return {}
    starts = [Start(question, DEMO) for question in bench.questions]
    return by_question(write(sitting, bench.student, asked, starts, bench.config.demos, kind="demo"))


def by_question(written: Iterable[Written]) -> dict[str, list[Written]]:
    """The responses of each question, in their order."""
    found: dict[str, list[Written]] = {}
    for one in written:
        found.setdefault(one.rollout.question_id, []).append(one)
    return found


def written_tokens(sitting: Sitting, rollout: Rollout) -> tuple[int, ...]:
    """The tokens of a response without its end of sequence."""
    ids = rollout.token_ids
    return ids[:-1] if ids and ids[-1] in sitting.bench.student.model.eos_ids else ids


def tabulate(written: Iterable[Written], grading: Grading) -> pl.DataFrame:
    """The rows of `responses.parquet`."""
    return build_table("probe_responses", [_row(one, grading) for one in written])


def _row(one: Written, grading: Grading) -> dict[str, object]:
    rollout, grades = one.rollout, one.drawn.grades
    return {
        "question_id": rollout.question_id,
        "writer": rollout.model,
        "start": one.start.label,
        "sample": one.sample,
        "prefix_tokens": len(one.start.prefix_ids),
        "tokens": len(rollout.token_ids),
        "correct": rollout.correct,
        "parsed": grades.under(grading).parsed,
        "truncated": rollout.truncated,
        "correct_strict": grades.strict.correct,
        "correct_relaxed": grades.relaxed.correct,
        "token_ids": list(rollout.token_ids),
        "text": rollout.text,
    }


def find_failures(written: Iterable[Written]) -> list[tuple[str, VerifierFailure]]:
    """Responses that the verifier could not grade, each beside its question's id."""
    return [(one.rollout.question_id, failure) for one in written if (failure := one.drawn.grades.failure) is not None]
