"""The sentences of a summary: what is recommended or why not, and what the numbers cannot say."""

import math
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from hydrometer.alignment.choice import NO_UNIT, Ranked, Ranking, Worth
from hydrometer.alignment.intervals import MIN_QUESTIONS
from hydrometer.alignment.scores import NO_DIRECTION
from hydrometer.types import NO_TEACHER, STUDENT

TWO_CANDIDATES_AT = 0.5
MEASURED_AT = 0.5
_MOST_NAMES = 4
SPREAD_AT = 0.5
"""Share of a score's variance between questions from which more paths of each are not worth it."""
LIMIT = (
    "It compares first steps at today's student, which continues every response itself: it does not look ahead to what "
    "the student becomes after training."
)
BY_OUTCOMES = (
    "The ranking is by the outcomes of all scored paths. What is told of correct and of incorrect paths apart, or of a "
    "single token, rests on the few nodes that were branched at: take --goal map or both where that is wanted."
)
LOOKED_BEFORE = (
    "The run may have stopped at any of its looks: probabilities and intervals over questions are taken at "
    "{level:.1%}, so that those of all looks together hold in 95 %."
)
LITTLE_MEASURED = "{arm}: most of what this objective would change lies at tokens or positions that were not measured."
NOT_WEIGHED = (
    "Whether it destroys what the student is sure of is not known: too few tokens were measured for that (--goal both "
    "or map measures all)."
)
PRIVILEGE = (
    "{who} leads with a context of the one question at hand ({context}). In the study of predictive validity all six "
    "trainings with such a teacher lost accuracy, 6 to 45 points, whatever they had scored: the student is taught to "
    "write what only somebody who was told can know. Take a context that holds for every question (rule:TEXT) or "
    "another model, or train a few steps and evaluate them against the untrained student first."
)
LEARNABLE = " What it can learn of it, another teacher says: --teacher {aggregate} --continuation both."
TEACHER_LIMIT = "It assumes that {who} writes the rest of every response, which the student in training does not do."


def name_of(line: Ranked) -> str:
    """How an arm is called in a sentence."""
    return NO_TEACHER if line.arm is None else f"{line.arm.teacher} with {line.arm.objective}"


def leads(name: str) -> str:
    """That an arm is in front, by its `name_of`."""
    return "doing without a teacher leads" if name == NO_TEACHER else f"{name} leads"


def list_names(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; of more than four, three and the number of the rest."""
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
        last = "and"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def objectives_of(lines: Sequence[Ranked]) -> list[str]:
    """Objectives of some teacher's arms."""
    return [line.arm.objective for line in lines if line.arm is not None]


def recommendation_sentence(line: Ranked, ranking: Ranking, epsilon: float, continuation: str) -> str:
    """What the recommended arm is better at, over what, and the limit of it."""
    where, limit = _where(ranking), _limit(continuation)
    if line.arm is None:
        return (
            f"Without any teacher: doing nothing is within {epsilon:g} of the best pooled cosine with probability "
            f"{line.p_within_epsilon:.2f} {where}. {limit}"
        )
    own = f"its own is {line.score:+.3f}" if math.isfinite(line.score) else "in what unit could not be measured"
    rivals = [name_of(rival) for rival in ranking.rivals]
    tied = f" It was not told apart from {list_names(rivals)}: they differ by less than that." if rivals else ""
    tied += _not_weighed(line)
    return (
        f"{name_of(line)} is within {epsilon:g} of the best pooled cosine with probability "
        f"{line.p_within_epsilon:.2f}, {where}; {own}.{tied} {limit}"
    )


def teacher_decided(after: int | None) -> str:
    """That the teacher is decided and its objective is not; `after` so many questions, where the run looked before."""
    when = "" if after is None else f" after {after} questions"
    return f"teacher decided{when}, objective still open"


def teacher_sentence(
    ranking: Ranking, epsilon: float, continuation: str, more_tokens: int | None, decided_after: int | None
) -> str:
    """That the teacher is decided, of which its objectives, and what those would cost to tell apart."""
    best = ranking.lines[0]
    assert best.arm is not None
    objectives = objectives_of(ranking.own)
    untold = f"{objectives[0]} leads"
    if len(objectives) > 1:
        untold = f"{list_names(objectives)} are not told apart: take {'either' if len(objectives) == 2 else 'any'}"
    return (
        f"{teacher_decided(decided_after).capitalize()}: the best arm of {best.arm.teacher} is within {epsilon:g} of "
        f"the best pooled cosine with probability {ranking.p_teacher:.2f}, {_where(ranking)}. Of its objectives "
        f"{untold}. At today's scores it would take {_price(more_tokens)} more generated tokens to tell."
        f"{_not_weighed(best)} {_limit(continuation)}"
    )


def withheld_sentence(ranking: Ranking, name: str) -> str:
    """Why the leading arm is not recommended, though it was not shown to do harm either."""
    best = ranking.lines[0]
    assert best.arm is not None
    assert best.worth is not None
    return (
        f"Nothing is recommended: {name_of(best)} leads, but {_added_up(best.arm.teacher, best.worth, name)}. That is "
        "not above 0, so the leader is not shown to gain anything; more questions may show it."
    )


def harm_sentences(ranking: Ranking, name: str) -> list[str]:
    """For each teacher that ranks below `no teacher` because it is known to do harm: why, in one sentence.

    `name` is that of the ranking: `student`, or that of all teachers.
    """
    told: dict[str, str] = {}
    for line in ranking.lines:
        if line.arm is not None and line.worth is not None and line.is_harm and line.arm.teacher not in told:
            cosine = f" (up to {line.score:+.3f})" if math.isfinite(line.score) and line.score > 0.0 else ""
            told[line.arm.teacher] = (
                f"{line.arm.teacher} ranks below no teacher whatever its cosine{cosine}: "
                f"{_added_up(line.arm.teacher, line.worth, name)}."
            )
    return list(told.values())


class Privilege(NamedTuple):
    """What a teacher sees and the student never will."""

    context: str
    aggregate: str | None
    """Spec of the teacher that is the mean over the contexts that the student cannot tell apart, where there is one
    and the run lacks it."""


def privilege_sentence(teacher: str, privilege: Privilege) -> str:
    """The warning of a leader that sees what the student never will."""
    more = "" if privilege.aggregate is None else LEARNABLE.format(aggregate=shlex.quote(privilege.aggregate))
    return PRIVILEGE.format(who=teacher, context=privilege.context) + more


def _not_weighed(line: Ranked) -> str:
    return f" {NOT_WEIGHED}" if line.worth is None else ""


def _added_up(teacher: str, worth: Worth, name: str) -> str:
    who, order = ("the student", ", to first order") if name == STUDENT else (teacher, "")
    if order and abs(worth.value) > 1.0:
        order += ", which can exceed what there is to lose"
    interval = f" [{worth.low:+.3f}, {worth.high:+.3f}]" if math.isfinite(worth.low) else ""
    return (
        f"along a response that {who} continues its choices add up to {worth.value:+.3f} in success rate{interval}"
        f"{order}: {worth.measured:+.3f} on measured candidates and {worth.harm:+.3f} where the student is sure, which "
        "counts as harm"
    )


def _where(ranking: Ranking) -> str:
    return f"over {ranking.n_questions} questions ({ranking.n_nodes} nodes that all arms share)"


def _limit(continuation: str) -> str:
    return LIMIT if continuation == "student" else TEACHER_LIMIT.format(who=continuation)


def _price(more_tokens: int | None) -> str:
    return "an unknown number of" if more_tokens is None else f"about {more_tokens:,}"


def where_to_spend(question_share: float) -> str:
    """Whether more questions or more paths of each would help; empty where that is unknown."""
    if not math.isfinite(question_share):
        return ""
    if question_share >= SPREAD_AT:
        return f" {question_share:.0%} of its variance lies between questions: more of them help, more --paths do not."
    return (
        f" {1.0 - question_share:.0%} of its variance lies within questions: more --paths of each help as well as more "
        "questions."
    )


def undecided_sentence(ranking: Ranking, epsilon: float, more_tokens: int | None, for_teacher: int | None) -> str:
    """Why nothing is recommended, and what it would cost to tell the arm, and the teacher alone."""
    scored = [line for line in ranking.lines if line.arm is not None]
    if not scored and not ranking.unranked:
        return "Nothing to rank: all objectives of this run are references, which are never ranked."
    if not scored:
        return "Nothing to rank: no teacher has a node with two candidates that were visited often enough."
    if all(line.reason == NO_DIRECTION for line in scored):
        return (
            "Nothing to rank: no arm moves the student wherever it was measured. A teacher that agrees with the "
            "student does not, nor an objective without a direction."
        )
    if all(not math.isfinite(line.score) and line.reason != NO_UNIT for line in scored):
        return (
            "Not separated yet: success rates differ by no more than their own sampling noise, so no arm has a score."
        )
    if ranking.n_questions < MIN_QUESTIONS:
        return (
            f"Not separated yet: {ranking.n_questions} questions have nodes that all arms share, and below "
            f"{MIN_QUESTIONS} no probability is given."
        )
    best = ranking.lines[0]
    if not math.isfinite(best.p_within_epsilon):
        return "Not separated yet: leaving out one question leaves nothing but noise, so no probability is given."
    if len(ranking.own) > 1:
        return _undecided_teacher(ranking, epsilon, more_tokens, for_teacher)
    if best.p_within_epsilon < ranking.needed:
        why = (
            f"is within {epsilon:g} of the best with probability {best.p_within_epsilon:.2f} only "
            f"({ranking.needed:.3g} is asked for)"
        )
    else:
        why = f"cannot be told apart from {list_names([name_of(rival) for rival in ranking.rivals])}"
    return (
        f"Not separated yet: {leads(name_of(best))}, but {why}. If today's scores are right it would "
        f"take {_price(more_tokens)} more generated tokens, spent on further questions, to tell."
        f"{where_to_spend(ranking.question_share)}"
    )


def _undecided_teacher(ranking: Ranking, epsilon: float, more_tokens: int | None, for_teacher: int | None) -> str:
    """Where several objectives of one teacher lead: how sure the teacher is, and what teacher and objective cost."""
    best = ranking.lines[0]
    assert best.arm is not None
    others = list(dict.fromkeys(line.arm.teacher if line.arm else name_of(line) for line in ranking.others))
    if ranking.p_teacher < ranking.needed:
        sure = f" only ({ranking.needed:.3g} is asked for)"
    else:
        sure = f", but {list_names(others)} {'is' if len(others) == 1 else 'are'} not told apart from it"
    return (
        f"Not separated yet: {best.arm.teacher} leads, with {list_names(objectives_of(ranking.own), 'or')}; the best "
        f"of these is within {epsilon:g} of the best arm with probability {ranking.p_teacher:.2f}{sure}. At today's "
        f"scores it would take {_price(for_teacher)} more generated tokens, on further questions, to tell the teacher, "
        f"and {_price(more_tokens)} to tell its objective too.{where_to_spend(ranking.question_share)}"
    )


def measurement_warnings(
    *,
    n_questions: int,
    n_eligible: int,
    two_candidate_share: float | None,
    median_visits: float | None,
    ranking: Ranking,
    low_measured: Sequence[str],
    sampled_fields: Sequence[str],
) -> list[str]:
    """What a reader of the scores must know, in words."""
    said = []
    if n_questions < MIN_QUESTIONS:
        said.append(
            f"{n_questions} questions have a node with two kept candidates: no interval over questions below "
            f"{MIN_QUESTIONS}."
        )
    if n_eligible and two_candidate_share is not None and two_candidate_share > TWO_CANDIDATES_AT:
        said.append(
            f"{two_candidate_share:.0%} of the {n_eligible} eligible nodes have exactly two kept candidates, where a "
            "cosine is +1 or -1 whatever the sizes: mean cosine and fraction positive are then sign counts."
        )
    if median_visits is not None:
        said.append(
            "Mean cosine, fraction positive and weighted cosine are attenuated by noise: a kept candidate has "
            f"{median_visits:g} visits in the median. Compare them only at equal visits, and see their values at half "
            "the visits."
        )
    for name in sampled_fields:
        said.append(
            f"{name}: its direction is estimated from the rollouts that give the success rates. The pooled cosine has "
            "the noise of both taken out; the other scores of this objective have not."
        )
    for name in low_measured:
        said.append(LITTLE_MEASURED.format(arm=name))
    if ranking.lost_nodes:
        said.append(
            f"The ranking leaves out {ranking.lost_nodes} nodes and {ranking.lost_questions} questions that not every "
            "ranked arm was scored on."
        )
    for arm in ranking.unranked:
        said.append(
            f"{arm.teacher} with {arm.objective} is not ranked: it was scored on no node with two kept candidates."
        )
    return said
