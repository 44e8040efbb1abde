"""Given rollouts on their way into the corridor, and what is said of them once they have been scored."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hydrometer.diagnosis.given.rollouts import GivenQuestion, GivenRollouts
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState, open_question
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import decode_grades, encode_grades
from hydrometer.runs.rounds import Record, Rounds
from hydrometer.tasks import answer_part, verify_all

_LOUD_GAP_NATS = 0.05
"""Mean distance per token above which given log-probabilities are not the student's."""


class Disagreement(NamedTuple):
    """How a verifier grades responses that came with rewards."""

    responses: int
    only_reward: int
    """Correct by their reward, wrong for the verifier."""
    only_verifier: int


def take_given(given: GivenRollouts, instruments: Instruments) -> list[QuestionState]:
    """The questions with their rollouts; nothing is counted before the paths are scored."""
    return [_state(question, instruments) for question in given.questions]


def _state(given: GivenQuestion, instruments: Instruments) -> QuestionState:
    state = open_question(instruments.student, given.question, given.frozen)
    for rollout, grades, logprobs in given.rollouts:
        state.add(rollout, grades)
        if rollout.kind == "path" and logprobs is not None:
            state.sampler_logprobs[rollout.rollout_id] = logprobs
    return state


def compare_verdicts(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> Disagreement | None:
    """Grade the responses of a file with the run's verifier; None where there is none, or rewards are its own."""
    given = instruments.given
    if given is None or given.kind != "file" or instruments.config.verifier is None:
        return None
    progress.stage("grading given responses", len(states))
    responses, only_reward, only_verifier = 0, 0, 0
    for state in states:
        record = rounds.run("verdicts", [state.question.question_id], lambda state=state: _verify(instruments, state))
        for rollout, encoded in zip(state.rollouts.values(), record["grades"], strict=False):
            verdict = decode_grades(*encoded).under(instruments.config.grading).correct
            responses += 1
            only_reward += rollout.correct and not verdict
            only_verifier += verdict and not rollout.correct
        progress.advance(1)
    return Disagreement(responses, only_reward, only_verifier)


def _verify(instruments: Instruments, state: QuestionState) -> Record:
    texts = [answer_part(rollout.text, is_open=state.is_thinking) for rollout in state.rollouts.values()]
    graded = verify_all(instruments.task, [(state.question, text) for text in texts])
    return {"grades": [encode_grades(grades) for grades in graded]}


def describe_given(
    given: GivenRollouts, states: Sequence[QuestionState], gaps: np.ndarray, disagreement: Disagreement | None
) -> list[str]:
    """Warnings about given rollouts.

    Args:
        given: where they came from.
        states: of the finished measurement.
        gaps: |given log-probability - scored one| at the tokens of the analysed paths, in nats.
        disagreement: of verifier and rewards, where both are there.
    """
    notes = list(given.notes)
    if given.kind == "run":
        return notes
    paths = [(state, path) for state in states for path in state.of_kind("path")]
    if len(gaps):
        compared = sum(path.rollout_id in state.sampler_logprobs for state, path in paths)
        notes.append(_describe_gap(gaps, compared, len(paths)))
    impossible = sum(int(np.isnan(state.scores[path.rollout_id].sampled_logprob).sum()) for state, path in paths)
    if impossible:
        notes.append(
            f"{impossible} tokens of the analysed responses have probability 0 for the student as it is said to be "
            "sampled (--top-p): they were not sampled like that."
        )
    if disagreement is not None:
        notes.append(
            f"Verifier and rewards disagree on {disagreement.only_reward + disagreement.only_verifier} of "
            f"{disagreement.responses} given responses: {disagreement.only_reward} are correct by their reward alone, "
            f"{disagreement.only_verifier} for the verifier alone. The rewards count for what was given, the verifier "
            "for what was sampled."
        )
    return notes


def _describe_gap(gaps: np.ndarray, compared: int, paths: int) -> str:
    found = (
        f"The given logprobs and those of the student differ by {gaps.mean():.3g} nats a token on average (at most "
        f"{gaps.max():.3g}) over {compared} of {paths} analysed responses"
    )
    if gaps.mean() <= _LOUD_GAP_NATS:
        return f"{found}: as far as this shows, they were sampled from this student."
    return (
        f"WRONG STUDENT? {found}. Above {_LOUD_GAP_NATS:g} these rollouts were sampled from another model, prompt, "
        "temperature or top-p than this run scores with, and no score below can be trusted."
    )
