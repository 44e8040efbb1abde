"""The sampling and scoring of a diagnosis, read from top to bottom.

    choose questions -> base, path and demo rollouts -> teacher contexts -> scores of the paths -> branches -> rewards
    -> rollouts with contexts

The first two steps fall away where rollouts are given (`given`); those of another run bring their branches too. A run
that is to choose goes through all steps with a group of questions at a time, and stops when it has chosen (`looking`).

Every step that costs model time is a journalled round (`rounds`); everything else is recomputed from those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
from hydrometer.diagnosis.branching import order_rollout, sample_branches
from hydrometer.diagnosis.chosen_nodes import choose_for_length, choose_nodes
from hydrometer.diagnosis.context_rounds import build_contexts
from hydrometer.diagnosis.given.states import compare_verdicts, take_given
from hydrometer.diagnosis.in_context import sample_in_context
from hydrometer.diagnosis.looking import build_answer, build_look, plan_looks, rank_so_far
from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.pilot import QuestionSource
from hydrometer.diagnosis.rewards import score_rewards
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState, open_question
from hydrometer.errors import RunFolderError
from hydrometer.runs.drawing import draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rounds import Record, Rounds
from hydrometer.sampling import rollout_seed
from hydrometer.teachers import PathScores, score_paths
from hydrometer.types import Rollout, RolloutKind


def measure(instruments: Instruments, rounds: Rounds, progress: Progress) -> Measurement:
    """Sample, score and branch until nothing is left to ask for, the choice is made, or the budget is spent."""
    found = Measurement()
    if instruments.given is not None:
        states = take_given(instruments.given, instruments)
        found.disagreement = compare_verdicts(instruments, rounds, progress, states)
        _measure_questions(instruments, rounds, progress, found, states)
        return found
    source = QuestionSource(instruments, rounds, progress)
    looks = plan_looks(instruments, source.most)
    for count in looks.questions:
        questions = source.first(count, found)[len(found.states) :]
        if not questions:
            break
        states = [open_question(instruments.student, question) for question in questions]
        _sample_on_policy(instruments, rounds, progress, states)
        _measure_questions(instruments, rounds, progress, found, states)
        if len(looks.questions) > 1:
            ranking = rank_so_far(instruments, found.states, looks.needed)
            look = build_look(ranking, len(found.states), rounds.cost, found.looks)
            found.looks.append(look)
            progress.note(str(look))
            progress.answer(build_answer(ranking, len(found.states), rounds.cost, look.teacher_decided_after))
            if look.is_decided:
                break
        if found.is_budget_spent:
            break
    source.tell(found)
    return found


def _measure_questions(
    instruments: Instruments,
    rounds: Rounds,
    progress: Progress,
    found: Measurement,
    states: Sequence[QuestionState],
) -> None:
    """All that follows the on-policy rollouts of some questions, which then belong to what was found."""
    found.states += states
    build_contexts(instruments, rounds, progress, states)
    _score_paths(instruments, rounds, progress, states)
    for state in states:
        state.grow_trees(instruments.asked(state), instruments.config.candidate_threshold)
    sample_branches(instruments, rounds, progress, found, states)
    score_rewards(instruments, rounds, progress, states)
    sample_in_context(instruments, rounds, progress, states)


def _sample_on_policy(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    orders = [
        order_rollout(instruments, state, kind)
        for state in states
        for kind, count in wanted_rollouts(instruments).items()
        for _ in range(count)
    ]
    progress.stage("on-policy rollouts", len(orders))
    by_question = {state.question.question_id: state for state in states}
    for rollout, grades, logprobs in draw_in_rounds(
        "sample",
        orders,
        instruments.student_writer,
        instruments.grader,
        rounds,
        progress,
        max_tokens=instruments.config.max_response_tokens,
    ):
        state = by_question[rollout.question_id]
        state.add(rollout, grades)
        if logprobs is not None:
            state.sampler_logprobs[rollout.rollout_id] = logprobs


def wanted_rollouts(instruments: Instruments) -> dict[RolloutKind, int]:
    """On-policy rollouts of each question, by kind; demonstrations only where a context needs them."""
    config = instruments.config
    wanted: dict[RolloutKind, int] = {"base": config.rollouts, "path": config.paths}
    if instruments.needs_demos:
        wanted["demo"] = config.demos
    return wanted


def _score_paths(instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]) -> None:
    progress.stage("scoring paths", sum(len(state.of_kind("path")) for state in states))
    for state in states:
        paths = state.of_kind("path")
        key = [state.question.question_id, [path.rollout_id for path in paths], state.scored_teachers]
        record = rounds.run("score", key, lambda state=state, paths=paths: _score(instruments, state, paths))
        for path, arrays in zip(paths, record["arrays"], strict=True):
            state.scores[path.rollout_id] = _read_scores(decode_arrays(arrays))
            _choose_nodes(instruments, state, path)
        if instruments.ranks_by_outcomes and not state.frozen:
            _choose_for_length(instruments, state)
        progress.advance(len(paths))


def _read_scores(arrays: Mapping[str, np.ndarray]) -> PathScores:
    """The scores in a journal.

    Raises:
        RunFolderError: another version wrote them, which recorded other quantities.
    """
    recorded = {field.name for field in fields(PathScores)}
    if differing := sorted(recorded ^ arrays.keys()):
        raise RunFolderError(
            "The version of hydrometer that began this run recorded other scores than this one "
            f"({', '.join(differing)}): go on with that version, or start again in a new folder."
        )
    return PathScores(**arrays)


def _choose_nodes(instruments: Instruments, state: QuestionState, path: Rollout) -> None:
    scores = state.scores[path.rollout_id]
    if frozen := state.frozen.get(path.rollout_id):
        chosen = scores, frozen.node_weights
    else:
        seed = rollout_seed(instruments.config.seed, f"nodes\x1f{path.question_id}", path.rollout_id)
        chosen = choose_nodes(scores, instruments.config.nodes_per_path, np.random.default_rng(seed))
    state.scores[path.rollout_id], state.node_weights[path.rollout_id] = chosen


def _choose_for_length(instruments: Instruments, state: QuestionState) -> None:
    seed = rollout_seed(instruments.config.seed, f"nodes\x1f{state.question.question_id}", 0)
    scores = [state.scores[path.rollout_id] for path in state.of_kind("path")]
    weights = choose_for_length(scores, instruments.config.nodes_per_question, np.random.default_rng(seed))
    state.node_weights = {path.rollout_id: own for path, own in zip(state.of_kind("path"), weights, strict=True)}


def _score(instruments: Instruments, state: QuestionState, paths: Sequence[Rollout]) -> Record:
    views = instruments.views(state.prompts)
    frozen = [state.frozen.get(path.rollout_id) for path in paths]
    scores = score_paths(
        instruments.student,
        state.prompt_ids,
        views,
        [path.token_ids for path in paths],
        instruments.scored_objectives,
        warp=instruments.warp,
        threshold=instruments.config.candidate_threshold,
        listed=[None if one is None else one.candidates for one in frozen],
    )
    scored = sum(len(path.token_ids) for path in paths) * (1 + sum(len(view.prompts) for view in views))
    return {"scored_tokens": scored, "arrays": [encode_arrays(found.arrays()) for found in scores]}
