"""Rounds of branches: forced tokens, continued by the student, by teachers, or by both.

Everyone who continues has a round in its turn, as long as it has something left to ask for: so a budget is shared round
by round, and a larger one goes on where a smaller one ended. A teacher first writes as many rollouts from its own
prompt as the student has base rollouts: they continue the root, and say how often it is right by itself.
"""

from collections.abc import Sequence

from hydrometer.alignment.separation import RECOMMEND_AT
from hydrometer.diagnosis.continuation import Continuer
from hydrometer.diagnosis.looking import build_answer, rank_so_far
from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.setup import Instruments
from hydrometer.diagnosis.state import QuestionState
from hydrometer.runs.drawing import draw, draw_in_rounds
from hydrometer.runs.progress import Progress
from hydrometer.runs.rollouts import Order
from hydrometer.runs.rounds import Rounds, round_size
from hydrometer.sampling import rollout_seed
from hydrometer.types import STUDENT, RolloutKind

_FEWEST_BRANCHES = 64
"""Branches of one question that are sampled together: every batch computes the prefixes of its questions anew."""
_BUDGETED_ROUND = 128
"""Branches between two looks at the budget. No other number may depend on it: a larger one goes on with the run."""
_Prefix = tuple[int, ...]


def order_rollout(
    instruments: Instruments,
    state: QuestionState,
    kind: RolloutKind,
    prefix_ids: _Prefix = (),
    parent: int | None = None,
) -> Order:
    """The next rollout of the student."""
    rollout_id = state.next_rollout_id
    state.next_rollout_id += 1
    seed = rollout_seed(instruments.config.seed, state.question.question_id, rollout_id)
    return Order(
        state.question, state.prompt_ids, rollout_id, kind, seed, prefix_ids, parent, is_thinking=state.is_thinking
    )


def _order_of(
    instruments: Instruments,
    continuer: Continuer,
    state: QuestionState,
    kind: RolloutKind,
    prefix_ids: _Prefix = (),
    parent: int | None = None,
) -> Order:
    """The next rollout of whoever continues; a teacher's seeds are of its name and the question."""
    if continuer.name == STUDENT:
        return order_rollout(instruments, state, kind, prefix_ids, parent)
    continued = state.continued[continuer.name]
    number = continued.ordered
    continued.ordered += 1
    stream = f"continuation\x1f{continuer.name}\x1f{state.question.question_id}"
    assert continued.asked is not None
    return Order(
        state.question,
        continued.asked.prompt_ids,
        continuer.first_id + number,
        kind,
        rollout_seed(instruments.config.seed, stream, number),
        prefix_ids,
        parent,
        model=continuer.name,
        is_thinking=continued.asked.is_thinking,
        mixture=continued.asked.mixture,
    )


def sample_branches(
    instruments: Instruments,
    rounds: Rounds,
    progress: Progress,
    found: Measurement,
    states: Sequence[QuestionState],
) -> None:
    """Branch until the allocation asks for no more, or the budget ends before it does."""
    for continuer in instruments.continuers:
        if continuer.name != STUDENT:
            _sample_roots(instruments, continuer, rounds, progress, _served(continuer, states))
    budget = instruments.budget
    waiting = {continuer: _served(continuer, states) for continuer in instruments.continuers}
    done = 0
    progress.stage(_stage_name(instruments), _planned_in_all(instruments, waiting))
    while any(waiting.values()):
        for continuer in instruments.continuers:
            if not waiting[continuer]:
                continue
            if budget is not None and budget.is_spent(rounds.cost):
                found.is_budget_spent = _planned_in_all(instruments, waiting) > 0
                return
            orders, waiting[continuer] = _next_orders(instruments, continuer, waiting[continuer])
            if orders:
                _draw_branches(instruments, continuer, rounds, states, orders)
                done += len(orders)
                progress.advance(len(orders), total=done + _planned_in_all(instruments, waiting))
        if instruments.config.goal != "choose" and progress.wants_answer():
            ranking = rank_so_far(instruments, found.states, RECOMMEND_AT)
            progress.answer(build_answer(ranking, len(found.states), rounds.cost))


def _stage_name(instruments: Instruments) -> str:
    names = [continuer.name for continuer in instruments.continuers]
    if names == [STUDENT]:
        return "branches"
    return f"branches continued by {names[0]}" + (f" and {len(names) - 1} more in turn" if names[1:] else "")


def _served(continuer: Continuer, states: Sequence[QuestionState]) -> list[QuestionState]:
    """Questions that this model continues; a teacher that is skipped somewhere continues nothing there."""
    return [state for state in states if state.is_continued_by(continuer.name)]


def _sample_roots(
    instruments: Instruments,
    continuer: Continuer,
    rounds: Rounds,
    progress: Progress,
    states: Sequence[QuestionState],
) -> None:
    """A teacher's rollouts from its own prompt."""
    count, by_question = instruments.config.rollouts, {state.question.question_id: state for state in states}
    orders = [_order_of(instruments, continuer, state, "base") for state in states for _ in range(count)]
    progress.stage(f"rollouts of {continuer.name}", len(orders))
    for rollout, grades, _ in draw_in_rounds(
        "own rollouts",
        orders,
        continuer.writer,
        instruments.grader,
        rounds,
        progress,
        max_tokens=instruments.config.max_response_tokens,
        key=[continuer.name],
    ):
        by_question[rollout.question_id].continued[continuer.name].add(rollout, grades)


def _next_orders(
    instruments: Instruments, continuer: Continuer, waiting: Sequence[QuestionState]
) -> tuple[list[Order], list[QuestionState]]:
    """The orders of one round, and the questions that may still ask for more."""
    size = round_size(continuer.writer.model, instruments.config.max_response_tokens)
    if instruments.budget is not None:
        size = min(size, _BUDGETED_ROUND)
    share = max(_FEWEST_BRANCHES, size // len(waiting))
    orders: list[Order] = []
    served, left_for_later = [], []
    for state in waiting:
        if len(orders) >= size:
            left_for_later.append(state)
            continue
        continued = state.continued[continuer.name]
        assert continued.listed is not None
        branches = instruments.allocation.next_round(continued.tree, continued.listed, limit=share)
        for branch in branches:
            prefix = (*state.rollouts[branch.path_id].token_ids[: branch.position], branch.token_id)
            orders += [
                _order_of(instruments, continuer, state, "branch", prefix, branch.path_id) for _ in range(branch.count)
            ]
        if branches:
            served.append(state)
    return orders, left_for_later + served


def _draw_branches(
    instruments: Instruments,
    continuer: Continuer,
    rounds: Rounds,
    states: Sequence[QuestionState],
    orders: Sequence[Order],
) -> None:
    by_question = {state.question.question_id: state for state in states}
    for drawn in draw(continuer.round_kind, orders, continuer.writer, instruments.grader, rounds):
        by_question[drawn.rollout.question_id].continued[continuer.name].add(drawn.rollout, drawn.grades)


def _planned_in_all(instruments: Instruments, waiting: dict[Continuer, list[QuestionState]]) -> int:
    return sum(_planned(instruments, state, continuer.name) for continuer in waiting for state in waiting[continuer])


def _planned(instruments: Instruments, state: QuestionState, name: str) -> int:
    continued = state.continued[name]
    return 0 if continued.listed is None else instruments.allocation.planned(continued.tree, continued.listed)


def plans_more(instruments: Instruments, state: QuestionState) -> bool:
    """Whether the allocation would ask for more branches of a question."""
    return any(_planned(instruments, state, name) > 0 for name in state.continued)
