"""`probe`: what to ask before training, kept like every other run.

result = probe("prefix", student="bundled:student", teacher="expert=bundled:expert", task="bundled:chain")
result.summary["teachers"]["expert"]["verdict"], result.tables["responses"]
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import ValidationError

from hydrometer.artifacts import (
    SCHEMA_VERSION,
    RunFolder,
    open_run_folder,
    read_json,
    read_run_json,
    read_table,
    refuse_used_folder,
    write_json,
    write_table,
)
from hydrometer.credentials import refuse_secrets
from hydrometer.errors import DiskError, SpecError, UnknownNameError, VerifierError
from hydrometer.evaluation.summary import describe_warnings
from hydrometer.models import CausalModel, torch_threads
from hydrometer.probes.aggregation import probe_aggregation
from hydrometer.probes.config import CONFIGS
from hydrometer.probes.continuation import probe_continuation
from hydrometer.probes.findings import Findings
from hydrometer.probes.pattern import probe_pattern
from hydrometer.probes.prefix import probe_prefix
from hydrometer.probes.responses import Sitting, find_failures, tabulate
from hydrometer.probes.setup import Bench, build_bench
from hydrometer.probes.showing import describe_skips
from hydrometer.report import end_with_report
from hydrometer.runs.engines import report_outages
from hydrometer.runs.fingerprints import fingerprint_questions
from hydrometer.runs.interrupts import terminable
from hydrometer.runs.options import explain_invalid
from hydrometer.runs.progress import Progress, Silent
from hydrometer.runs.provenance import Status, check_same_run, describe_cost, describe_models, describe_versions
from hydrometer.runs.rounds import Cost, Rounds
from hydrometer.runs.verdicts import describe_failures, explain_all_failed
from hydrometer.types import STUDENT, Task

_PROBES = {
    "prefix": probe_prefix,
    "continuation": probe_continuation,
    "aggregation": probe_aggregation,
    "pattern": probe_pattern,
}


@dataclass(frozen=True, slots=True)
class Probe:
    """A finished probe."""

    summary: Mapping[str, Any]
    """The content of `summary.json`."""
    tables: Mapping[str, pl.DataFrame]
    """By the name of their file: `responses`, and `tokens` or `disagreement`."""
    folder: Path | None
    """None where nothing was written."""


def open_probe(folder: Path) -> Probe:
    """Read a finished probe from its folder.

    Raises:
        RunFolderError: no finished probe, or one of another schema version.
    """
    read_run_json(folder, "probe")
    summary = read_json(folder / "summary.json")
    return Probe(summary, {path.stem: read_table(path) for path in sorted(folder.glob("*.parquet"))}, folder)


def probe(
    kind: str,
    *,
    student: str | CausalModel = "bundled:student",
    teacher: str | Sequence[str] | Mapping[str, CausalModel] | None = None,
    task: str | Task = "bundled:chain",
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Probe:
    """Ask something of a student and its teachers before training.

    Args:
        kind: prefix, continuation, aggregation or pattern.
        student: model spec, or a model object.
        teacher: teacher specs `[NAME=]MODEL[+CONTEXT]`, or model objects by name (without a context).
        task: task spec, or a task object.
        out: run folder, new or empty unless `resume`; without it nothing is written.
        resume: go on with the probe in `out`.
        progress: told what happens; silent by default.
        options: further fields of the kind's config, e.g. `questions=50, seed=3`; see `hydrometer probe KIND --help`.

    Raises:
        UserError: what was given cannot work; the message says what to do.
    """
    if kind not in CONFIGS:
        raise UnknownNameError("probe", kind, CONFIGS)
    objects = teacher if isinstance(teacher, Mapping) else None
    named: dict[str, Any] = dict(options)
    named["student"] = student if isinstance(student, str) else student.spec
    named["task"] = task if isinstance(task, str) else task.name
    if teacher is not None:
        named["teacher"] = [f"{name}={model.spec}" for name, model in objects.items()] if objects else teacher
    config_type = CONFIGS[kind]
    try:
        config = config_type(**named)
    except ValidationError as error:
        raise SpecError(explain_invalid(error, config_type.model_fields)) from error
    bench = build_bench(
        config,
        student=None if isinstance(student, str) else student,
        teachers=objects,
        task=None if isinstance(task, str) else task,
    )
    return run_probe(bench, None if out is None else Path(out), resume=resume, progress=progress or Silent())


def run_probe(bench: Bench, out: Path | None, *, resume: bool, progress: Progress) -> Probe:
    """Run (or go on with) a probe; with a folder `out` it can be resumed.

    Raises:
        UserError: see `probe`; also where the verifier failed on every response (the tables are written all the same).
        KeyboardInterrupt: on SIGINT or SIGTERM; with a folder everything up to the last finished round is kept.
    """
    config = bench.config
    if resume and out is None:
        raise SpecError("--resume goes on with a run that is there: name its folder with --out DIR")
    report_outages(bench.models.values(), progress)
    torch.manual_seed(config.seed)  # nothing draws from it; a library that does is at least repeatable
    identity = _describe_run(bench)
    refuse_secrets(identity, "run.json")  # also what files and chat templates brought in
    if out is not None:
        refuse_used_folder(out, resume=resume)
    opened = nullcontext() if out is None else open_run_folder(out, resume=resume)
    with opened as folder, terminable(), torch_threads(config.threads):
        journal = None if folder is None else folder.journal
        rounds = Rounds(journal, progress, score_cache=bench.score_cache)
        if folder is not None:
            recorded = rounds.run("start", [], lambda: {"identity": identity})["identity"]
            check_same_run(recorded, identity, folder.path, type(config))
        with _told(folder, identity, rounds.cost):
            if bench.available < config.questions:
                progress.note(f"{bench.task.name} has {bench.available} questions in the split '{config.split}'.")
            findings = _PROBES[bench.kind](Sitting(bench, rounds, progress))
            result = _conclude(bench, findings, rounds.cost, folder)
        if folder is not None:
            end_with_report(folder.path, progress.note)
    failures = find_failures(findings.written)
    if failures and len(failures) == len(findings.written):
        raise VerifierError(explain_all_failed(failures))
    return result


@contextmanager
def _told(folder: RunFolder | None, identity: Mapping[str, Any], cost: Cost) -> Iterator[None]:
    """`run.json` says how the run stands, at its start and however it ends."""

    def tell(status: Status) -> None:
        if folder is not None:
            write_json(folder.path / "run.json", {**identity, "status": status, "cost": describe_cost(cost)})

    tell("running")
    try:
        yield
    except BaseException as error:
        with suppress(DiskError):  # what went wrong first is what has to be told
            tell("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    tell("done")


def _describe_run(bench: Bench) -> dict[str, Any]:
    """Identity of a run: what has to be equal for `--resume`, and under which versions it was made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "probe",
        "probe": bench.kind,
        "config": {"probe": bench.kind, **bench.config.model_dump(mode="json")},
        "seed": bench.config.seed,
        "task": bench.task.name,
        "task_fingerprint": fingerprint_questions(bench.questions, wanted=len(bench.questions), has_pilot=False),
        "models": describe_models(bench.models),
        "prompts": bench.prompts.describe(),
        "device": bench.config.device,
        "versions": describe_versions(),
    }


def _conclude(bench: Bench, findings: Findings, cost: Cost, folder: RunFolder | None) -> Probe:
    """Tables and summary, written where there is a folder."""
    config = bench.config
    tables = {"responses": tabulate(findings.written, config.grading), **findings.tables}
    writers = set(tables["responses"]["writer"])
    called = {name: bench.student.model.spec if name == STUDENT else name for name in bench.models if name in writers}
    summary = {
        "probe": bench.kind,
        "student": bench.student.model.spec,
        "task": bench.task.name,
        "split": config.split,
        "questions": len(bench.questions),
        "grading": config.grading,
        "seed": config.seed,
        **findings.about,
        "teachers": {teacher.name: findings.teachers[teacher.name] for teacher in bench.teachers},
        "warnings": [
            *findings.warnings,
            *describe_skips(findings.skipped),
            *describe_warnings(tables["responses"].rename({"writer": "model"}), called, config.grading),
            *describe_failures(find_failures(findings.written)),
            *(() if bench.score_cache is None else bench.score_cache.describe_trouble()),
        ],
        "cost": describe_cost(cost),
    }
    if folder is not None:
        for name, table in tables.items():
            write_table(folder.path / f"{name}.parquet", table)
        write_json(folder.path / "summary.json", summary)
    return Probe(summary, tables, None if folder is None else folder.path)
