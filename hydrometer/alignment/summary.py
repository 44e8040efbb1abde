"""The dictionary of `summary.json`: every arm's scores with intervals, ranking, recommendation, tests, warnings.

Nothing is estimated here; this module puts together what the others compute and says in words what limits it. Every
float is finite, or null with a reason beside it.

    summary = summarise(nodes=nodes, candidates=candidates, teacher_scores=teacher_scores, token_scores=token_scores,
                        alignment=alignment, questions=questions, visit_log=None,
                        objectives={"reverse_kl": ObjectiveInfo("reverse_kl")}, controls={}, cost={})
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import polars as pl

from hydrometer.alignment.analyses import RunTables, analyse, two_candidate_share
from hydrometer.alignment.arms import MeasuredShares, arm_entries, measured_shares, median_visits
from hydrometer.alignment.arrays import SAMPLED_FIELDS, has_distinct_rates
from hydrometer.alignment.choice import NO_OBJECTIVE, ObjectiveInfo, Ranked, Ranking, Worth
from hydrometer.alignment.entries import finite, interval_of
from hydrometer.alignment.families import run_families
from hydrometer.alignment.gate import Positions
from hydrometer.alignment.joint import TEACHERS, continuation_of, rank_continuations
from hydrometer.alignment.outcomes import ScoredPaths
from hydrometer.alignment.separation import RECOMMEND_AT
from hydrometer.alignment.study import Study, build_studies
from hydrometer.alignment.wording import (
    BY_OUTCOMES,
    LITTLE_MEASURED,
    LOOKED_BEFORE,
    MEASURED_AT,
    Privilege,
    harm_sentences,
    measurement_warnings,
    name_of,
    objectives_of,
    privilege_sentence,
    recommendation_sentence,
    teacher_sentence,
    undecided_sentence,
    withheld_sentence,
)
from hydrometer.types import NO_TEACHER, STUDENT

EPSILON = 0.02


def summarise(
    *,
    nodes: pl.DataFrame,
    candidates: pl.DataFrame,
    teacher_scores: pl.DataFrame,
    token_scores: pl.DataFrame,
    alignment: pl.DataFrame,
    questions: pl.DataFrame,
    visit_log: pl.DataFrame | None,
    rollouts: pl.DataFrame | None = None,
    objectives: Mapping[str, ObjectiveInfo],
    controls: Mapping[str, str],
    cost: Mapping[str, int | float],
    privileged: Mapping[str, Privilege] = MappingProxyType({}),
    epsilon: float = EPSILON,
    by_outcomes: bool = False,
    needed: float = RECOMMEND_AT,
    teacher_decided_after: int | None = None,
    warnings: Sequence[str] = (),
    seed: int = 0,
    studies: Sequence[Study] | None = None,
    unlisted: Collection[str] = (),
) -> dict[str, Any]:
    """Everything `summary.json` says about a diagnosis.

    Args:
        nodes: completed nodes (see `complete_nodes`), all positions of all paths.
        candidates: `candidates.parquet`.
        teacher_scores: with a column `field:NAME` per objective.
        token_scores: full-vocabulary quantities per path x position x teacher x objective.
        alignment: from `compute_alignment`.
        questions: `questions.parquet`.
        visit_log: one row per counted rollout x candidate of a path's node: question_id, rollout_id, position,
            token_id, counted_rollout_id, correct. None: no `these_questions` intervals.
        rollouts: `rollouts.parquet`. None: no analysis of group sizes.
        objectives: name -> direction key and whether it is a reference; order decides which alias names an arm.
        controls: teacher -> its control teacher.
        cost: what the run spent; `generated_tokens` scales the price of separating the arms.
        privileged: teachers whose context is of the one question at hand.
        epsilon: arms this close to the best are as good as it.
        by_outcomes: rank arms by the outcomes of the paths (see `outcomes`) instead of by the measured nodes.
        needed: level of a recommendation and of intervals over questions; higher where the run has looked before (see
            `looks`).
        teacher_decided_after: questions after which earlier looks found the teacher decided, where they did.
        warnings: of the caller, put first.
        seed: of the draws behind p_within_epsilon and of the resampling.
        studies: from `build_studies` on these tables, where the caller has a use for them too.
        unlisted: teachers that had no say in what is a candidate.
    """
    studies = build_studies(nodes, candidates, teacher_scores, objectives) if studies is None else studies
    scored = ScoredPaths(nodes, candidates, teacher_scores, questions) if by_outcomes else None
    positions = None if by_outcomes else Positions(nodes, candidates, token_scores, questions, unlisted)
    rankings = rank_continuations(studies, scored, positions, epsilon=epsilon, needed=needed, seed=seed)
    summary: dict[str, Any] = {"arms": [], "ranking": [], "tests": [], "correlations": []}
    for name, ranking in rankings.items():
        summary["ranking"] += [_ranking_entry(line, name) for line in ranking.lines]
    tables = RunTables(nodes, teacher_scores, token_scores, alignment, rollouts)
    analyses: dict[str, Any] = {"two_candidate_share": {}}
    notes = [*warnings, *([BY_OUTCOMES] if by_outcomes else [])]
    notes += [LOOKED_BEFORE.format(level=needed)] if needed > RECOMMEND_AT else []
    for study in studies:
        shares = measured_shares(token_scores, study.kept, nodes)
        summary["arms"] += arm_entries(study, shares, visit_log, seed, confidence=needed)
        summary["tests"] += [
            row | {"continuation": study.continuation}
            for row in run_families(study.arms, study.sums, study.teachers, controls)
        ]
        found = analyse(study, tables)
        summary["correlations"] += found.correlations
        for name, rows in found.lists.items():
            analyses[name] = analyses.get(name, []) + rows
        analyses["two_candidate_share"][study.continuation] = two_candidate_share(study.kept)
        if study.continuation == STUDENT:
            notes += _warnings(study, rankings[STUDENT], shares)
        else:
            notes += [LITTLE_MEASURED.format(arm=arm) for arm in _barely_measured(study, shares)]
    primary = next(iter(rankings), None)
    told = [privilege_sentence(who, privileged[who]) for who in _leaders(rankings) if who in privileged]
    summary |= _verdict(rankings[primary], primary, epsilon, cost, teacher_decided_after) if primary else _NO_VERDICT
    harms = [text for name, ranking in rankings.items() for text in harm_sentences(ranking, name)]
    return summary | {
        "harms": harms,
        "told": told,
        "ranked_by": "outcomes" if by_outcomes else "branches",
        "analyses": analyses | {"questions": questions.height, "epsilon": epsilon, "confidence": needed},
        "warnings": [*told, *notes],
        "cost": dict(cost),
    }


_NO_VERDICT = {
    "recommendation": None,
    "leading_teacher": None,
    "more_tokens": None,
    "verdict": "Nothing to rank: no candidate was counted.",
}


def _ranking_entry(line: Ranked, ranking: str) -> dict[str, Any]:
    return {
        "teacher": line.arm.teacher if line.arm else NO_TEACHER,
        "objective": line.arm.objective if line.arm else NO_OBJECTIVE,
        "continuation": continuation_of(line.arm.teacher if line.arm else None, ranking),
        "score": finite(line.score),
        "interval": line.interval,
        "p_within_epsilon": finite(line.p_within_epsilon),
        "reason": line.reason,
        "worth": None if line.worth is None else _worth_entry(line.worth),
        "is_harm": line.is_harm,
    }


def _worth_entry(worth: Worth) -> dict[str, Any]:
    return {
        "value": worth.value,
        "interval": interval_of(worth.low, worth.high),
        "measured": worth.measured,
        "counted_as_harm": worth.harm,
    }


def _leaders(rankings: Mapping[str, Ranking]) -> list[str]:
    """Teachers that lead a ranking."""
    first = [ranking.lines[0].arm for ranking in rankings.values()]
    return list(dict.fromkeys(arm.teacher for arm in first if arm is not None))


def _verdict(
    ranking: Ranking, name: str, epsilon: float, cost: Mapping[str, int | float], decided_after: int | None
) -> dict[str, Any]:
    """The recommendation, or what it would cost to be able to give one; always with a sentence."""
    spent = int(cost.get("generated_tokens", 0))
    leading = _leading_teacher(ranking, name, spent)
    if sure := ranking.recommended:
        entry = _ranking_entry(sure, name)
        sentence = recommendation_sentence(sure, ranking, epsilon, _who_continues(entry["continuation"]))
        chosen = {name: entry[name] for name in ("teacher", "objective", "continuation")}
        chosen |= {"probability": sure.p_within_epsilon, "sentence": sentence}
        chosen["not_told_apart_from"] = [name_of(rival) for rival in ranking.rivals]
        return {"recommendation": chosen, "leading_teacher": leading, "more_tokens": None, "verdict": sentence}
    more = ranking.more_tokens(spent)
    if ranking.lines[0].is_withheld:
        sentence = withheld_sentence(ranking, name)
    elif leading is not None and leading["is_decided"]:
        sentence = teacher_sentence(ranking, epsilon, _who_continues(leading["continuation"]), more, decided_after)
    else:
        sentence = undecided_sentence(ranking, epsilon, more, ranking.more_tokens_for_teacher(spent))
    return {"recommendation": None, "leading_teacher": leading, "more_tokens": more, "verdict": sentence}


def _leading_teacher(ranking: Ranking, name: str, spent: int) -> dict[str, Any] | None:
    """The first arm's teacher, its objectives that are not told apart, and how sure it is; None for no teacher."""
    first = ranking.lines[0]
    if first.arm is None or finite(ranking.p_teacher) is None:
        return None
    return {
        "teacher": first.arm.teacher,
        "objectives": objectives_of(ranking.own),
        "continuation": continuation_of(first.arm.teacher, name),
        "probability": ranking.p_teacher,
        "is_decided": ranking.is_teacher_decided,
        "more_tokens": None if ranking.is_teacher_decided else ranking.more_tokens_for_teacher(spent),
    }


def _who_continues(continuation: str) -> str:
    return "each teacher" if continuation == TEACHERS else continuation


def _barely_measured(study: Study, shares: MeasuredShares) -> list[str]:
    by_teacher = "" if study.continuation == STUDENT else f", continued by {study.continuation}"
    return [
        f"{arm.teacher} with {arm.objective}{by_teacher} (measured share {share:.0%})"
        for arm in study.arms
        if (share := shares.get((arm.teacher, arm.objective))) is not None and share < MEASURED_AT
    ]


def _warnings(study: Study, ranking: Ranking, shares: MeasuredShares) -> list[str]:
    return measurement_warnings(
        n_questions=len(study.labels.questions),
        n_eligible=int(has_distinct_rates(study.kept).sum()),
        two_candidate_share=two_candidate_share(study.kept),
        median_visits=median_visits(study.kept),
        ranking=ranking,
        low_measured=_barely_measured(study, shares),
        sampled_fields=sorted({arm.objective for arm in study.arms} & SAMPLED_FIELDS),
    )
