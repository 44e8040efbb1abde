"""`diagnose`: which teacher and objective would help this student, measured without training.

result = diagnose(out="runs/first", teacher=["expert=bundled:expert", "self+answer"], questions=12)
result.summary["ranking"], result.table("alignment")
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from hydrometer.alignment import accuracy_by_difficulty, summarise
from hydrometer.alignment.advice import advise
from hydrometer.alignment.analyses import has_tilt, sequence_tilt
from hydrometer.alignment.arrays import teachers_under
from hydrometer.alignment.choice import merge_arms
from hydrometer.alignment.identity import Worlds
from hydrometer.alignment.separation import RECOMMEND_AT
from hydrometer.alignment.study import build_studies
from hydrometer.artifacts import (
    RunFolder,
    build_table,
    open_run_folder,
    refuse_used_folder,
    write_json,
    write_parts,
    write_table,
)
from hydrometer.credentials import refuse_secrets
from hydrometer.diagnosis.branching import plans_more
from hydrometer.diagnosis.checking import check_before_run
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.confirming import suggest_confirmation
from hydrometer.diagnosis.corridor import measure
from hydrometer.diagnosis.given.states import describe_given
from hydrometer.diagnosis.grading import describe_grading, explain_broken_verifier
from hydrometer.diagnosis.in_context import describe_truncation
from hydrometer.diagnosis.measurement import Measurement
from hydrometer.diagnosis.provenance import describe_run
from hydrometer.diagnosis.score_table import build_scores, count_in_context, count_own
from hydrometer.diagnosis.setup import Instruments, build_instruments
from hydrometer.diagnosis.tables import build_tables, pack_rollouts
from hydrometer.diagnosis.values import describe_values, explain_faults, explain_learnable
from hydrometer.errors import DiskError, SpecError, UserError
from hydrometer.models import CausalModel, torch_threads
from hydrometer.report import end_with_report
from hydrometer.results import Diagnosis
from hydrometer.runs.engines import report_outages
from hydrometer.runs.interrupts import terminable
from hydrometer.runs.options import RUNTIME_FIELDS, explain_invalid
from hydrometer.runs.progress import Progress, Silent
from hydrometer.runs.provenance import Status, check_same_run, describe_cost
from hydrometer.runs.rounds import Cost, Rounds
from hydrometer.types import STUDENT, Task

_SUMMARISED = ("nodes", "candidates", "teacher_scores", "token_scores", "alignment", "questions", "rollouts")
_MAY_CHANGE = RUNTIME_FIELDS | {"budget"}
_WRITING = "tables, summary and report"
_GAP_WORTH_SAYING = 1e-3
"""Nats between the sampling and the scoring pass above which the report says so."""


def diagnose(
    *,
    out: str | Path,
    student: str | CausalModel = "bundled:student",
    teacher: str | Sequence[str] | Mapping[str, CausalModel] | None = None,
    task: str | Task = "bundled:chain",
    resume: bool = False,
    check: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Diagnosis:
    """Diagnose teachers and objectives for a student, without training.

    Args:
        out: the run folder; has to be empty or new unless `resume`.
        student: model spec, or a model object.
        teacher: teacher specs, or model objects by name (default: the bundled teachers).
        task: task spec, or a task object.
        resume: go on with the run in `out`.
        check: look for mistakes in models, templates and sampler first (`hydrometer check`), and stop at a red one.
        progress: told what happens; silent by default.
        options: further fields of `DiagnoseConfig`, e.g. `questions=12, objective=["reverse_kl"], seed=3`.

    Raises:
        UserError: what was given cannot work; the message says what to do. A run that has begun can be resumed.
    """
    named: dict[str, Any] = dict(options)
    named["student"] = student if isinstance(student, str) else student.spec
    named["task"] = task if isinstance(task, str) else task.name
    if teacher is not None:
        named["teacher"] = (teacher,) if isinstance(teacher, str) else tuple(teacher)
    try:
        config = DiagnoseConfig(**named)
    except ValidationError as error:
        raise SpecError(explain_invalid(error, DiagnoseConfig.model_fields)) from error
    instruments = build_instruments(
        config,
        student=None if isinstance(student, str) else student,
        teachers=teacher if isinstance(teacher, Mapping) else None,
        task=None if isinstance(task, str) else task,
    )
    return run_diagnosis(instruments, Path(out), resume=resume, check=check, progress=progress or Silent())


def run_diagnosis(
    instruments: Instruments, out: Path, *, resume: bool, progress: Progress, check: bool = True
) -> Diagnosis:
    """Run (or go on with) a diagnosis in the folder `out`.

    Raises:
        UserError: see `diagnose`; also when no node became eligible (the tables are written all the same).
        KeyboardInterrupt: on SIGINT or SIGTERM; everything up to the last finished round is kept.
    """
    config = instruments.config
    report_outages(instruments.models.values(), progress)
    torch.manual_seed(config.seed)  # nothing draws from it; a library that does is at least repeatable
    identity = describe_run(instruments)
    refuse_secrets(identity, "run.json")  # also what files and chat templates brought in
    refuse_used_folder(out, resume=resume)  # told before the check takes its time
    began = time.monotonic()
    with torch_threads(config.threads):
        checked = check_before_run(instruments, out, resume=resume, progress=progress) if check else None
    with open_run_folder(out, resume=resume) as folder, terminable(), torch_threads(config.threads):
        stages = {"check": Cost(wall_s=time.monotonic() - began)}
        rounds = Rounds(folder.journal, progress, stages=stages, score_cache=instruments.score_cache)
        begun = rounds.run("start", [], lambda: {"identity": identity})["identity"]
        check_same_run(begun, identity, out, type(config), _MAY_CHANGE)
        described = {**identity, "preflight": checked}
        _write_run(folder, described, "running", rounds.cost)
        try:
            found = measure(instruments, rounds, progress)
            progress.stage(_WRITING, 1)
            began = time.monotonic()
            summary, eligible_nodes = _write_results(instruments, found, described, folder, rounds.cost)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(DiskError):  # what went wrong first is what has to be told
                _write_run(folder, described, status, rounds.cost)
            raise
        end_with_report(out, progress.note)
        rounds.stages[_WRITING] = Cost(wall_s=time.monotonic() - began)
        progress.advance(1)
    speaks = instruments.given is not None and has_tilt(summary["analyses"]["sequence_tilt"])
    if not eligible_nodes and not speaks:
        raise UserError(_explain_nothing_eligible(instruments, found, out))
    if not any(state.scored_teachers for state in found.states):
        raise UserError(_explain_all_skipped(instruments, found, out))
    return Diagnosis(out, summary, rounds.stages)


def _write_results(
    instruments: Instruments, found: Measurement, identity: Mapping[str, Any], folder: RunFolder, cost: Cost
) -> tuple[dict[str, Any], int]:
    """Write every file of a finished run; returns the summary and the number of eligible nodes."""
    tables, visit_log = build_tables(instruments, found)
    write_parts(folder.path / "rollouts.parquet", pack_rollouts(found.states, instruments.config.grading))
    for name, table in tables.items():
        if name != "rollouts":
            write_table(folder.path / f"{name}.parquet", table)
    eligible_nodes = int(tables["nodes"]["eligible"].sum())
    measured = {name: tables[name] for name in ("nodes", "candidates", "teacher_scores")}
    studies = build_studies(**measured, objectives=instruments.directions)
    own = count_own(found.states)
    values = describe_values(instruments, Worlds(**measured, token_scores=tables["token_scores"], own=own))
    summary = summarise(
        **{name: tables[name] for name in _SUMMARISED},
        visit_log=visit_log,
        objectives=instruments.directions,
        controls=instruments.controls,
        privileged=instruments.privileged,
        cost=describe_cost(cost),
        epsilon=instruments.config.epsilon,
        by_outcomes=instruments.ranks_by_outcomes,
        needed=found.looks[-1].needed if found.looks else RECOMMEND_AT,
        teacher_decided_after=found.looks[-1].teacher_decided_after if found.looks else None,
        warnings=[*_warnings(instruments, found, eligible_nodes), *explain_faults(values), *explain_learnable(values)],
        seed=instruments.config.seed,
        studies=studies,
        unlisted=instruments.unlisted,
    )
    summary["values"] = values
    summary["confirm"] = suggest_confirmation(instruments, summary["ranking"])
    by_themselves = own if len(instruments.continuers) > 1 else count_in_context(tables["context_rollouts"])
    arms = merge_arms(teachers_under(STUDENT, tables["teacher_scores"]), instruments.directions)
    scores = build_scores(studies, arms=arms, tables=tables, own=by_themselves)
    write_table(folder.path / "scores.parquet", scores)
    summary["looks"] = [look.describe() for look in found.looks]
    summary["candidate_set"] = _candidate_set(instruments)
    summary["analyses"]["sequence_tilt"] = sequence_tilt(tables["log_ratios"])
    written = tables["context_rollouts"]
    summary["analyses"]["in_context"] = (
        [] if written.is_empty() else accuracy_by_difficulty(written, tables["questions"], baseline=STUDENT)
    )
    advice, summary["analyses"]["advice"] = advise(
        summary, nodes=tables["nodes"], alignment=tables["alignment"], rollouts=tables["rollouts"]
    )
    write_table(folder.path / "advice.parquet", build_table("advice", advice))
    write_json(folder.path / "summary.json", summary)
    _write_run(folder, identity, "done", cost, found)
    return summary, eligible_nodes


def _write_run(
    folder: RunFolder, identity: Mapping[str, Any], status: Status, cost: Cost, found: Measurement | None = None
) -> None:
    entry = {**identity, "status": status, "cost": describe_cost(cost)}
    if found is not None:
        gaps = found.sampler_gaps()
        uninformative = [state.question.question_id for state in found.states if not state.is_informative]
        entry["questions"] = {
            "analysed": len(found.states),
            "piloted": found.piloted,
            "left_out_by_pilot": len(found.left_out),
            "left_out_ids": found.left_out,
            "fit_but_not_needed": len(found.not_needed),
            "fit_but_not_needed_ids": found.not_needed,
            "uninformative": len(uninformative),
            "uninformative_ids": uninformative,
            "uninformative_are": "analysed and pooled like the others",
        }
        entry["sampler_gap_nats"] = {
            "mean": float(gaps.mean()) if len(gaps) else None,
            "max": float(gaps.max()) if len(gaps) else None,
        }
    write_json(folder.path / "run.json", entry)


def _candidate_set(instruments: Instruments) -> str:
    """Which tokens the ranking is over: scores of two runs compare where this is the same."""
    if instruments.given is not None and instruments.given.kind == "run":
        return f"candidates of {instruments.given.source}"
    names = ", ".join(teacher.name for teacher in instruments.teachers)
    level = instruments.config.candidate_threshold
    return f"tokens with probability above {level:g} for the student or one of {names}"


def _warnings(instruments: Instruments, found: Measurement, eligible_nodes: int) -> list[str]:
    gaps, given = found.sampler_gaps(), instruments.given
    notes = [] if given is None else describe_given(given, found.states, gaps, found.disagreement)
    if given is not None and not eligible_nodes:
        notes.insert(
            0,
            f"No node has two candidates with >= {instruments.config.min_visits} visits and different success rates, "
            "so no arm has a score: only the tilt of whole responses can be told. Lower --min-visits, or give more "
            "rollouts of each question.",
        )
    if found.is_budget_spent:
        notes.append(_explain_budget(instruments, found))
    notes += [objective.caution for objective in instruments.objectives if objective.caution]
    if given is None and len(gaps) and float(np.mean(gaps)) > _GAP_WORTH_SAYING:
        notes.append(
            f"The pass that sampled and the pass that scored differ by {gaps.mean():.3g} nats per token on average "
            f"(at most {gaps.max():.3g}): {instruments.config.dtype} rounds differently there. Use --dtype float32."
        )
    for teacher in instruments.teachers:
        reasons = [p.reason for state in found.states if (p := state.prompts[teacher.name]).reason]
        if reasons:
            notes.append(
                f"Teacher '{teacher.name}' was skipped for {len(reasons)} of {len(found.states)} questions "
                f"({reasons[0]})."
            )
    if instruments.score_cache is not None:
        notes += instruments.score_cache.describe_trouble()
    notes += describe_truncation(found.states)
    notes += describe_grading(found, instruments.config.grading)
    total = sum(len(state.of_kind("base")) for state in found.states)
    truncated = sum(r.truncated for state in found.states for r in state.of_kind("base"))
    if given is None and truncated > 0.1 * total:
        notes.append(
            f"{truncated} of {total} base rollouts hit the limit of {instruments.config.max_response_tokens} tokens; "
            "raise --max-response-tokens if they would have gone on to an answer."
        )
    return notes


def _explain_budget(instruments: Instruments, found: Measurement) -> str:
    unfinished = [state for state in found.states if plans_more(instruments, state)]
    return (
        f"The budget of {instruments.budget} ended before {len(unfinished)} of {len(found.states)} questions were "
        "measured as planned: candidates with too few visits are left out there. Go on with --resume and a larger "
        "--budget."
    )


def _explain_all_skipped(instruments: Instruments, found: Measurement, out: Path) -> str:
    reasons = {t.name: found.states[0].prompts[t.name].reason for t in instruments.teachers[:6]}
    listed = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
    return (
        f"Every teacher was skipped for every question, so there is nothing to rank:\n{listed}\n"
        f"What was sampled is in {out}. Choose other contexts, or raise --demos where a demonstration was missing."
    )


def _explain_nothing_eligible(instruments: Instruments, found: Measurement, out: Path) -> str:
    least = instruments.config.min_visits
    if broken := explain_broken_verifier(found):
        return broken
    if not any(state.is_informative for state in found.states):
        return (
            f"All base rollouts are right, or all wrong, in each of the {len(found.states)} questions, so no token "
            f"makes a difference to success and nothing can be said about any teacher. What was measured is in {out}.\n"
            "Take an easier or harder task, or let pilot rollouts choose questions (--pilot 8)."
        )
    return (
        f"No node has two candidates with >= {least} visits and different success rates, so nothing can be said about "
        f"any teacher. What was measured is in {out}.\nSample more (--allocation fixed --visits {least}, or a larger "
        f"--branch-budget), lower --min-visits (now {least}, at least 2), or choose questions that the student gets "
        "right sometimes (--pilot 8)."
    )
