"""Ordered rollouts as journalled rounds, whoever writes them: a student, a peer, a summariser, a teacher."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydrometer.models import CausalModel
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Drawn, Order, read_rollouts, sample_orders
from hydrometer.runs.rounds import Record, Rounds, round_size
from hydrometer.sampling import Sampler
from hydrometer.types import Grading, Task


@dataclass(frozen=True, slots=True)
class Writer:
    """A model that writes: by itself, as a peer whose responses are shown, or summaries."""

    name: str
    """Its part in the run, or its spec."""
    model: CausalModel
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Grader:
    """Who says what is right."""

    task: Task
    grading: Grading
    """Which of the two gradings is the outcome of a rollout."""


def draw(
    kind: str,
    orders: Sequence[Order],
    writer: Writer,
    grader: Grader,
    rounds: Rounds,
    *,
    key: Sequence[str] = (),
    are_rollouts: bool = True,
) -> list[Drawn]:
    """One round of a kind, in the order of the orders.

    Args:
        kind: of the round.
        orders: what to draw; at least one.
        writer: who draws.
        grader: verifier and grading.
        rounds: where the round is kept, or taken from.
        key: what tells the round from others with the same first and last rollout.
        are_rollouts: whether the texts count as rollouts in the cost (their tokens always do).
    """
    first, last = orders[0], orders[-1]
    ends = [first.question.question_id, first.rollout_id, last.question.question_id, last.rollout_id]

    def sample() -> Record:
        record = sample_orders(orders, writer.sampler, writer.model, grader.task)
        return record if are_rollouts else record | {"n_rollouts": 0}

    record = rounds.run(kind, [*key, *ends, len(orders)], sample)
    return read_rollouts(orders, record, writer.model, grader.grading)


def draw_in_rounds(
    kind: str,
    orders: Sequence[Order],
    writer: Writer,
    grader: Grader,
    rounds: Rounds,
    progress: Progress,
    *,
    max_tokens: int,
    key: Sequence[str] = (),
    are_rollouts: bool = True,
) -> Iterator[Drawn]:
    """As many rounds as the orders need (see `draw`); `max_tokens` is the length limit of one text."""
    size = round_size(writer.model, max_tokens)
    for start in range(0, len(orders), size):
        group = orders[start : start + size]
        yield from draw(kind, group, writer, grader, rounds, key=key, are_rollouts=are_rollouts)
        progress.advance(len(group))
