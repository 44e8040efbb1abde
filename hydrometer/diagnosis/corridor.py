"""The sampling and scoring of a diagnosis, read from top to bottom.

    choose questions -> base, path and demo rollouts -> teacher contexts -> scores of the paths -> branches -> rewards
    -> rollouts with contexts

The first two steps fall away where rollouts are given (`given`); those of another run bring their branches too. A run
that is to choose goes through all steps with a group of questions at a time, and stops when it has chosen (`looking`).

Every step that costs model time is a journalled round (`rounds`); everything else is recomputed from those.
"""

from collections.abc import Sequence

import numpy as np

from hydrometer.alignment.choice import RECOMMEND_AT
from hydrometer.artifacts.arrays import decode_arrays, encode_arrays
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
from hydrometer.runs.drawing import draw, draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Order
from hydrometer.runs.rounds import Record, Rounds, round_size
from hydrometer.sampling import rollout_seed
from hydrometer.teachers import PathScores, score_path
from hydrometer.types import Rollout, RolloutKind

_FEWEST_BRANCHES = 64
"""Branches of one question that are sampled together: every batch computes the prefixes of its questions anew."""
_BUDGETED_ROUND = 128
"""Branches between two looks at the budget. No other number may depend on it: a larger one goes on with the run."""


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
            found.looks.append(build_look(ranking, len(found.states), rounds.cost))
            progress.note(str(found.looks[-1]))
            progress.answer(build_answer(ranking, len(found.states), rounds.cost))
            if found.looks[-1].is_decided:
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
        state.grow_tree()
    _sample_branches(instruments, rounds, progress, found, states)
    score_rewards(instruments, rounds, progress, states)
    sample_in_context(instruments, rounds, progress, states)


def _sample_on_policy(
    instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]
) -> None:
    orders = [
        _order(instruments, state, kind)
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


def _order(
    instruments: Instruments,
    state: QuestionState,
    kind: RolloutKind,
    prefix_ids: tuple[int, ...] = (),
    parent: int | None = None,
) -> Order:
    rollout_id = state.next_rollout_id
    state.next_rollout_id += 1
    seed = rollout_seed(instruments.config.seed, state.question.question_id, rollout_id)
    return Order(
        state.question, state.prompt_ids, rollout_id, kind, seed, prefix_ids, parent, is_thinking=state.is_thinking
    )


def _score_paths(instruments: Instruments, rounds: Rounds, progress: Progress, states: Sequence[QuestionState]) -> None:
    paths = [(state, path) for state in states for path in state.of_kind("path")]
    progress.stage("scoring paths", len(paths))
    for state, path in paths:
        key = [state.question.question_id, path.rollout_id, state.scored_teachers]
        record = rounds.run("score", key, lambda state=state, path=path: _score(instruments, state, path))
        scores = PathScores(**decode_arrays(record["arrays"]))
        if frozen := state.frozen.get(path.rollout_id):
            chosen = scores, frozen.node_weights
        else:
            seed = rollout_seed(instruments.config.seed, f"nodes\x1f{path.question_id}", path.rollout_id)
            chosen = choose_nodes(scores, instruments.config.nodes_per_path, np.random.default_rng(seed))
        state.scores[path.rollout_id], state.node_weights[path.rollout_id] = chosen
        progress.advance(1)
    if instruments.ranks_by_outcomes:
        for state in states:
            if not state.frozen:
                _choose_for_length(instruments, state)


def _choose_for_length(instruments: Instruments, state: QuestionState) -> None:
    seed = rollout_seed(instruments.config.seed, f"nodes\x1f{state.question.question_id}", 0)
    scores = [state.scores[path.rollout_id] for path in state.of_kind("path")]
    weights = choose_for_length(scores, instruments.config.nodes_per_question, np.random.default_rng(seed))
    state.node_weights = {path.rollout_id: own for path, own in zip(state.of_kind("path"), weights, strict=True)}


def _score(instruments: Instruments, state: QuestionState, path: Rollout) -> Record:
    views = instruments.views(state.prompts)
    frozen = state.frozen.get(path.rollout_id)
    scores = score_path(
        instruments.student,
        state.prompt_ids,
        views,
        path.token_ids,
        instruments.scored_objectives,
        warp=instruments.warp,
        threshold=instruments.config.candidate_threshold,
        listed=None if frozen is None else frozen.candidates,
    )
    scored = len(path.token_ids) * (1 + len(views))
    return {"scored_tokens": scored, "arrays": encode_arrays(scores.arrays())}


def _sample_branches(
    instruments: Instruments,
    rounds: Rounds,
    progress: Progress,
    found: Measurement,
    states: Sequence[QuestionState],
) -> None:
    """Branch until the allocation asks for no more, or the budget ends before it does."""
    allocation, budget = instruments.allocation, instruments.budget
    size = round_size(instruments.student, instruments.config.max_response_tokens)
    if budget is not None:
        size = min(size, _BUDGETED_ROUND)
    by_question = {state.question.question_id: state for state in states}
    done = 0
    progress.stage("branches", sum(_planned(instruments, state) for state in states))
    waiting = list(states)
    while waiting:
        if budget is not None and budget.is_spent(rounds.cost):
            found.is_budget_spent = any(plans_more(instruments, state) for state in waiting)
            return
        share = max(_FEWEST_BRANCHES, size // len(waiting))
        orders: list[Order] = []
        served, left_for_later = [], []
        for state in waiting:
            if len(orders) >= size:
                left_for_later.append(state)
                continue
            assert state.listed is not None
            branches = allocation.next_round(state.tree, state.listed, limit=share)
            for branch in branches:
                prefix = (*state.rollouts[branch.path_id].token_ids[: branch.position], branch.token_id)
                orders += [_order(instruments, state, "branch", prefix, branch.path_id) for _ in range(branch.count)]
            if branches:
                served.append(state)
        waiting = left_for_later + served
        if orders:
            for drawn in draw("branch", orders, instruments.student_writer, instruments.grader, rounds):
                by_question[drawn.rollout.question_id].add(drawn.rollout, drawn.grades)
            done += len(orders)
            progress.advance(len(orders), total=done + sum(_planned(instruments, state) for state in waiting))
        if instruments.config.goal != "choose" and progress.wants_answer():
            ranking = rank_so_far(instruments, found.states, RECOMMEND_AT)
            progress.answer(build_answer(ranking, len(found.states), rounds.cost))


def _planned(instruments: Instruments, state: QuestionState) -> int:
    assert state.listed is not None
    return instruments.allocation.planned(state.tree, state.listed)


def plans_more(instruments: Instruments, state: QuestionState) -> bool:
    """Whether the allocation would ask for more branches of a question."""
    return _planned(instruments, state) > 0
