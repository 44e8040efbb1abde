"""Rollouts by every teacher from its own prompt: how often is it right, who is shown this context?

    hydrometer diagnose --context-rollouts 16

They say nothing of a token and are never counted in success rates. The student's rollouts beside them are drawn afresh
from its own prompt, because the base rollouts choose which questions pass for hard (`alignment.analyses.in_context`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.runs.drawing import Writer, draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Asked, Order, ask_teacher
from hydrometer.runs.rounds import Rounds
from hydrometer.sampling import rollout_seed
from hydrometer.types import STUDENT

_TRUNCATED_WORTH_SAYING = 0.1
"""Share of a teacher's rollouts."""


def sample_in_context(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    """Draw and grade `context_rollouts` rollouts per question of the student and of every teacher not skipped there."""
    config = instruments.config
    if not config.context_rollouts:
        return
    for respondent in _respondents(instruments):
        asked = [
            (state, order)
            for state in states
            if respondent.name == STUDENT or respondent.name in state.scored_teachers
            for order in _orders(config.seed, config.context_rollouts, respondent, state)
        ]
        progress.stage(f"rollouts of {respondent.name} for in-context accuracy", len(asked))
        drawn = draw_in_rounds(
            "in_context",
            [order for _, order in asked],
            respondent,
            instruments.grader,
            rounds,
            progress,
            max_tokens=config.max_response_tokens,
            key=[respondent.name],
        )
        for (state, _), one in zip(asked, drawn, strict=True):
            state.context_rollouts.append(one)


def _respondents(instruments: Instruments) -> Iterator[Writer]:
    """The student without any context, then every teacher with its own."""
    yield instruments.student_writer
    for teacher in instruments.teachers:
        yield Writer(teacher.name, teacher.model, instruments.context_samplers[teacher.name])


def _orders(seed: int, count: int, respondent: Writer, state: QuestionState) -> list[Order]:
    """Seeds are of the respondent and its question, so that another teacher beside it changes none of its rollouts."""
    if respondent.name == STUDENT:
        asked = Asked(state.prompt_ids, state.is_thinking)
    else:
        asked = ask_teacher(respondent.model, state.prompts[respondent.name])
    stream = f"in_context\x1f{respondent.name}\x1f{state.question.question_id}"
    return [
        Order(
            state.question,
            asked.prompt_ids,
            number,
            "demo",
            rollout_seed(seed, stream, number),
            model=respondent.name,
            is_thinking=asked.is_thinking,
            mixture=asked.mixture,
        )
        for number in range(count)
    ]


def list_context_rollouts(states: Sequence[QuestionState]) -> list[dict[str, Any]]:
    """Rows of `context_rollouts.parquet`."""
    return [
        {
            "question_id": rollout.question_id,
            "teacher": rollout.model,
            "rollout_id": rollout.rollout_id,
            "text": rollout.text,
            "tokens": len(rollout.token_ids),
            "correct": rollout.correct,
            "truncated": rollout.truncated,
            "correct_strict": grades.strict.correct,
            "correct_relaxed": grades.relaxed.correct,
        }
        for state in states
        for rollout, grades, _ in state.context_rollouts
    ]


def describe_truncation(states: Sequence[QuestionState]) -> list[str]:
    """A warning per teacher whose in-context accuracy is held down by the length limit."""
    limits: dict[str, list[bool]] = {}
    for state in states:
        for drawn in state.context_rollouts:
            limits.setdefault(drawn.rollout.model, []).append(drawn.rollout.truncated)
    return [
        f"{sum(cut)} of {len(cut)} rollouts of '{name}' for in-context accuracy hit the length limit and mostly count "
        "as wrong; raise --max-response-tokens before comparing its accuracy."
        for name, cut in limits.items()
        if sum(cut) > _TRUNCATED_WORTH_SAYING * len(cut)
    ]
