"""`evaluate`: how often a model is right, with intervals over questions, and compared with another one.

result = evaluate(model="bundled:student", task="bundled:chain", samples=8)
result.accuracy, result.pass_at, result.table
"""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import ValidationError

from hydrometer.artifacts import (
    SCHEMA_VERSION,
    RunFolder,
    build_table,
    open_run_folder,
    read_json,
    read_run_json,
    read_table,
    refuse_used_folder,
    write_json,
    write_table,
)
from hydrometer.credentials import refuse_secrets
from hydrometer.errors import DiskError, SpecError, VerifierError
from hydrometer.evaluation.config import EvaluateConfig
from hydrometer.evaluation.evaluate import MODEL, Response, build_evaluation_table, evaluate_model
from hydrometer.evaluation.setup import AGAINST, Examination, build_examination
from hydrometer.evaluation.statistics import Estimate
from hydrometer.evaluation.summary import describe_comparison, describe_model, describe_warnings
from hydrometer.models import CausalModel, torch_threads
from hydrometer.report import end_with_report
from hydrometer.runs.engines import report_outages
from hydrometer.runs.fingerprints import fingerprint_questions
from hydrometer.runs.interrupts import terminable
from hydrometer.runs.options import explain_invalid
from hydrometer.runs.progress import Progress, Silent
from hydrometer.runs.provenance import Status, check_same_run, describe_cost, describe_models, describe_versions
from hydrometer.runs.rounds import Cost, Rounds
from hydrometer.runs.verdicts import describe_failures, explain_all_failed
from hydrometer.types import Task

_KIND = "evaluation"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation."""

    summary: Mapping[str, Any]
    """The content of `summary.json`."""
    table: pl.DataFrame
    """One row per response (`evaluation.parquet`); column `model` is `model`, or `against` for the second one."""
    folder: Path | None
    """None where nothing was written."""

    @property
    def accuracy(self) -> Estimate:
        """avg@k of the model."""
        return Estimate(**self.summary["accuracy"])

    @property
    def pass_at(self) -> dict[int, Estimate]:
        """pass@K of the model by K."""
        return {int(k): Estimate(**entry) for k, entry in self.summary["pass_at"].items()}

    @property
    def difference(self) -> Estimate | None:
        """Accuracy of the model minus that of the one it is compared with; None without one."""
        comparison = self.summary["comparison"]
        return None if comparison is None else Estimate(**comparison["difference"])


def open_evaluation(folder: Path) -> Evaluation:
    """Read a finished evaluation from its folder.

    Raises:
        RunFolderError: no finished evaluation, or one of another schema version.
    """
    read_run_json(folder, _KIND)
    return Evaluation(read_json(folder / "summary.json"), read_table(folder / "evaluation.parquet"), folder)


def evaluate(
    *,
    model: str | CausalModel = "bundled:student",
    task: str | Task = "bundled:chain",
    samples: int | None = None,
    against: str | CausalModel | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Ask a model every question of a split, and grade what it answers.

    Args:
        model: model spec, or a model object.
        task: task spec, or a task object.
        samples: responses to each question (default 8; 1 with `greedy=True`).
        against: a second model, asked the same questions with the same random numbers.
        out: run folder, new or empty unless `resume`; without it nothing is written.
        resume: go on with the evaluation in `out`.
        progress: told what happens; silent by default.
        options: further fields of `EvaluateConfig`, e.g. `split="test", questions=50, greedy=True, seed=3`.

    Raises:
        UserError: what was given cannot work; the message says what to do.
    """
    named: dict[str, Any] = {**options, "samples": samples}
    named["model"] = model if isinstance(model, str) else model.spec
    named["task"] = task if isinstance(task, str) else task.name
    named["against"] = against if isinstance(against, str | None) else against.spec
    try:
        config = EvaluateConfig(**named)
    except ValidationError as error:
        raise SpecError(explain_invalid(error, EvaluateConfig.model_fields)) from error
    examination = build_examination(
        config,
        model=None if isinstance(model, str) else model,
        against=None if isinstance(against, str | None) else against,
        task=None if isinstance(task, str) else task,
    )
    folder = None if out is None else Path(out)
    return run_evaluation(examination, folder, resume=resume, progress=progress or Silent())


def run_evaluation(examination: Examination, out: Path | None, *, resume: bool, progress: Progress) -> Evaluation:
    """Run (or go on with) an evaluation; with a folder `out` it can be resumed.

    Raises:
        UserError: see `evaluate`; also where the verifier failed on every response (the table is written all the same).
        KeyboardInterrupt: on SIGINT or SIGTERM; with a folder everything up to the last finished round is kept.
    """
    if resume and out is None:
        raise SpecError("--resume goes on with a run that is there: name its folder with --out DIR")
    report_outages(examination.models.values(), progress)
    torch.manual_seed(examination.config.seed)  # nothing draws from it; a library that does is at least repeatable
    identity = _describe_run(examination)
    refuse_secrets(identity, "run.json")  # also what files and chat templates brought in
    if out is not None:
        refuse_used_folder(out, resume=resume)
    opened = nullcontext() if out is None else open_run_folder(out, resume=resume)
    with opened as folder, terminable(), torch_threads(examination.config.threads):
        rounds = Rounds(None if folder is None else folder.journal, progress)
        if folder is not None:
            recorded = rounds.run("start", [], lambda: {"identity": identity})["identity"]
            check_same_run(recorded, identity, folder.path, type(examination.config))
        _write_run(folder, identity, "running", rounds.cost)
        try:
            responses = _ask_all(examination, rounds, progress)
            result = _conclude(examination, responses, rounds.cost, folder)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(DiskError):  # what went wrong first is what has to be told
                _write_run(folder, identity, status, rounds.cost)
            raise
        _write_run(folder, identity, "done", rounds.cost)
        if folder is not None:
            end_with_report(folder.path, progress.note)
    _refuse_broken_verifier(responses)
    return result


def _describe_run(examination: Examination) -> dict[str, Any]:
    """Identity of a run: what has to be equal for `--resume`, and under which versions it was made."""
    config = examination.config
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": _KIND,
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "task": examination.task.name,
        "task_fingerprint": fingerprint_questions(
            examination.questions, wanted=len(examination.questions), has_pilot=False
        ),
        "models": describe_models(examination.models),
        "prompts": examination.prompts.describe(),
        "device": config.device,
        "versions": describe_versions(),
    }


def _ask_all(examination: Examination, rounds: Rounds, progress: Progress) -> dict[str, list[Response]]:
    """Every model's responses, by its part in the run."""
    config = examination.config
    if config.questions is not None and examination.available < config.questions:
        progress.note(
            f"{examination.task.name} has {examination.available} questions in the split '{config.split}', not "
            f"{config.questions}."
        )
    return {
        writer.name: evaluate_model(
            writer.model,
            writer.sampler,
            examination.task,
            examination.questions,
            samples=examination.samples,
            seed=config.seed,
            max_response_tokens=config.max_response_tokens,
            grading=config.grading,
            name=writer.name,
            rounds=rounds,
            progress=progress,
        )
        for writer in examination.writers
    }


def _conclude(
    examination: Examination, responses: Mapping[str, list[Response]], cost: Cost, folder: RunFolder | None
) -> Evaluation:
    """Table and summary, written where there is a folder."""
    tables = {name: build_evaluation_table(found, name=name) for name, found in responses.items()}
    table = build_table("evaluation", pl.concat(tables.values()))
    config = examination.config
    specs = {writer.name: writer.model.spec for writer in examination.writers}
    described = {name: {"model": specs[name], **describe_model(found)} for name, found in tables.items()}
    summary = {
        "model": specs[MODEL],
        "task": examination.task.name,
        "split": config.split,
        "questions": len(examination.questions),
        "samples": examination.samples,
        "greedy": config.greedy,
        "grading": config.grading,
        "seed": config.seed,
        **described[MODEL],
        "against": described.get(AGAINST),
        "comparison": describe_comparison(tables[MODEL], tables[AGAINST]) if AGAINST in tables else None,
        "warnings": describe_warnings(table, specs, config.grading) + describe_failures(_failures(responses)),
        "cost": describe_cost(cost),
    }
    if folder is not None:
        write_table(folder.path / "evaluation.parquet", table)
        write_json(folder.path / "summary.json", summary)
    return Evaluation(summary, table, None if folder is None else folder.path)


def _failures(responses: Mapping[str, list[Response]]) -> list[tuple[str, Any]]:
    return [(r.question_id, r.failure) for found in responses.values() for r in found if r.failure is not None]


def _refuse_broken_verifier(responses: Mapping[str, list[Response]]) -> None:
    """An accuracy of 0 that only says that the verifier is broken is no result."""
    failures = _failures(responses)
    if failures and len(failures) == sum(map(len, responses.values())):
        raise VerifierError(explain_all_failed(failures))


def _write_run(folder: RunFolder | None, identity: Mapping[str, Any], status: Status, cost: Cost) -> None:
    if folder is not None:
        write_json(folder.path / "run.json", {**identity, "status": status, "cost": describe_cost(cost)})
