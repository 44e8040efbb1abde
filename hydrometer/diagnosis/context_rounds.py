"""What teachers are shown, per question: demonstrations by peers, summaries, and the prompts made of them.

Everything a model writes here is a journalled round, so that a resumed run shows the same texts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.runs.drawing import Writer, draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Order, ask
from hydrometer.runs.rounds import Rounds
from hydrometer.runs.teachers import Teacher
from hydrometer.sampling import rollout_seed
from hydrometer.teachers import (
    Belief,
    TeacherPrompt,
    blank_text,
    build_instances,
    build_teacher_prompt,
    request_summary,
    screen_summary,
    shown_demonstrations,
)
from hydrometer.types import STUDENT, Grading, Rollout


def build_contexts(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    """Let peers and summarisers write, then put together every teacher's prompt for every question."""
    _sample_peers(instruments, rounds, progress, states)
    _write_summaries(instruments, rounds, progress, states)
    for state in states:
        for teacher in instruments.teachers:
            if teacher.context.aggregate:
                state.prompts[teacher.name] = _build_aggregate(teacher, state, instruments.config.grading)
            else:
                state.prompts[teacher.name] = _build_prompt(teacher, state)


def _build_aggregate(teacher: Teacher, state: QuestionState, grading: Grading) -> TeacherPrompt:
    return build_instances(
        teacher.context,
        teacher.frame,
        state.question,
        [Belief(one, state.grades[one.rollout_id].under(grading).parsed) for one in state.demos()],
        refuse=state.of_kind("path"),
        blank=lambda text: blank_text(teacher.model, text),
    )


def _build_prompt(teacher: Teacher, state: QuestionState) -> TeacherPrompt:
    return build_teacher_prompt(
        teacher.context,
        state.question,
        demos=state.demos(teacher.peer or STUDENT),
        refuse=state.of_kind("path"),
        blank=lambda text: blank_text(teacher.model, text),
        frame=teacher.frame,
        summaries={id_: summary for (name, id_), summary in state.summaries.items() if name == teacher.summariser},
    )


def _sample_peers(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    config = instruments.config
    by_question = {state.question.question_id: state for state in states}
    for peer in instruments.peers.values():
        lacking = [state for state in states if not state.demos(peer.name)]  # another run's may be there already
        orders = [order for state in lacking for order in _order_peer(config.seed, config.demos, peer, state)]
        progress.stage(f"demonstrations by {peer.name}", len(orders))
        limit = config.max_response_tokens
        for drawn in draw_in_rounds(
            "peer", orders, peer, instruments.grader, rounds, progress, max_tokens=limit, key=[peer.name]
        ):
            by_question[drawn.rollout.question_id].add(drawn.rollout, drawn.grades)


def _order_peer(seed: int, count: int, peer: Writer, state: QuestionState) -> list[Order]:
    asked = ask(peer.model, state.question.prompt)
    first = state.next_rollout_id
    state.next_rollout_id += count
    return [
        Order(
            state.question,
            asked.prompt_ids,
            rollout_id,
            "demo",
            rollout_seed(seed, state.question.question_id, rollout_id),
            model=peer.name,
            is_thinking=asked.is_thinking,
        )
        for rollout_id in range(first, first + count)
    ]


class _Wanted(NamedTuple):
    """A demonstration that is to be summed up."""

    state: QuestionState
    demonstration: Rollout


def _write_summaries(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    config = instruments.config
    for writer in instruments.summarisers.values():
        wanted = _wanted_summaries(instruments, writer, states)
        orders = [_order_summary(config.seed, writer, state, demonstration) for state, demonstration in wanted]
        progress.stage(f"summaries by {writer.name}", len(orders))
        limit = config.max_summary_tokens
        written = draw_in_rounds(
            "summary",
            orders,
            writer,
            instruments.grader,
            rounds,
            progress,
            max_tokens=limit,
            key=[writer.name],
            are_rollouts=False,  # their tokens are paid for
        )
        for (state, demonstration), drawn in zip(wanted, written, strict=True):
            parsed = drawn.grades.under(config.grading).parsed
            state.summaries[writer.name, demonstration.rollout_id] = screen_summary(
                drawn.rollout, state.question, demonstration, parsed=parsed, refuse=state.of_kind("path")
            )


def _wanted_summaries(instruments: Instruments, writer: Writer, states: Sequence[QuestionState]) -> list[_Wanted]:
    """Each demonstration that some teacher of this summariser will be shown, once."""
    teachers = [teacher for teacher in instruments.teachers if teacher.summariser == writer.name]
    wanted: dict[tuple[str, int], _Wanted] = {}
    for state in states:
        for teacher in teachers:
            shown = shown_demonstrations(teacher.frame, state.question, state.demos(), state.of_kind("path"))
            for rollout in (shown or {}).values():
                wanted.setdefault((state.question.question_id, rollout.rollout_id), _Wanted(state, rollout))
    return list(wanted.values())


def _order_summary(seed: int, writer: Writer, state: QuestionState, demonstration: Rollout) -> Order:
    prompt_ids = writer.model.render(request_summary(state.question, demonstration))
    key = f"summary\x1f{writer.name}\x1f{state.question.question_id}"
    drawn_with = rollout_seed(seed, key, demonstration.rollout_id)
    return Order(state.question, prompt_ids, demonstration.rollout_id, "demo", drawn_with, model=writer.name)
