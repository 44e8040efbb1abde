"""`train`: distil into a student with one loop, whatever the objective, and keep what shows why it works or fails.

result = train(student="bundled:student", teacher="expert=bundled:expert", out="runs/first")
result.summary["after"]["accuracy"], result.folder / "model"
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, patch_environment
from pydantic import ValidationError

from hydrometer.artifacts import SCHEMA_VERSION, RunFolder, open_run_folder, refuse_used_folder, write_json
from hydrometer.credentials import refuse_secrets
from hydrometer.errors import DiskError, SpecError, TrainingError
from hydrometer.evaluation.summary import describe_comparison, describe_model
from hydrometer.models import torch_threads
from hydrometer.report import end_with_report
from hydrometer.results import Training
from hydrometer.runs.fingerprints import fingerprint_questions
from hydrometer.runs.interrupts import terminable, uninterrupted
from hydrometer.runs.options import RUNTIME_FIELDS, explain_invalid
from hydrometer.runs.progress import Progress, Silent
from hydrometer.runs.provenance import Status, check_same_run, describe_models, describe_versions
from hydrometer.training.checking import check_before_training
from hydrometer.training.checkpoints import find_checkpoint, read_checkpoint
from hydrometer.training.config import TrainConfig
from hydrometer.training.keeping import Keeper
from hydrometer.training.log import build_trackers
from hydrometer.training.loop import Trainer, run_steps
from hydrometer.training.saving import save_model
from hydrometer.training.setup import Workshop, build_workshop
from hydrometer.training.sharding import read_split
from hydrometer.training.state import Totals, TrainState
from hydrometer.training.zero import read_zero
from hydrometer.types import STUDENT, Task

_MAY_CHANGE = RUNTIME_FIELDS | {"micro_batch", "alarms", "log_to", "save_steps"}
"""Options that a resumed run may change: they do not change the steps that were made."""


def train(
    *,
    out: str | Path,
    student: str = "bundled:student",
    teacher: str | Sequence[str] = (),
    objective: str | Sequence[str] = ("reverse_kl",),
    task: str | Task = "bundled:chain",
    resume: bool = False,
    check: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Training:
    """Train a student and keep what happens.

    Args:
        out: run folder, new or empty unless `resume`.
        student: model spec.
        teacher: teacher specs, `[NAME=]MODEL[+CONTEXT]`; by default the bundled expert, for a bundled student.
        objective: `[COEFFICIENT*]KIND[:k=v,...]`, one or several.
        task: task spec, or a task object.
        resume: go on with the run in `out`.
        check: begin with the check of models, templates and sampler.
        progress: told what happens; silent by default.
        options: further fields of `TrainConfig`, e.g. `steps=200, learning_rate=1e-4, lora_rank=16`.

    Raises:
        UserError: what was given cannot work; the message says what to do.
    """
    named = {**options, "student": student, "teacher": teacher, "objective": objective}
    named["task"] = task if isinstance(task, str) else task.name
    try:
        config = TrainConfig(**named)
    except ValidationError as error:
        raise SpecError(explain_invalid(error, TrainConfig.model_fields)) from error
    shop = build_workshop(config, task=None if isinstance(task, str) else task)
    return run_training(shop, Path(out), resume=resume, check=check, progress=progress or Silent())


def run_training(shop: Workshop, out: Path, *, resume: bool, progress: Progress, check: bool = True) -> Training:
    """Run (or go on with) a training.

    Raises:
        UserError: see `train`.
        KeyboardInterrupt: on SIGINT or SIGTERM, after a checkpoint of the last whole step.
    """
    config = shop.config
    accelerator = _accelerate(config)
    torch.manual_seed(config.seed)  # nothing draws from it; a library that does is at least repeatable
    identity = _describe_run(shop)
    refuse_secrets(identity, "run.json")
    if not accelerator.is_main_process:
        return _follow(shop, accelerator, out)
    refuse_used_folder(out, resume=resume)  # told before the check takes its time
    with torch_threads(config.threads):
        checked = check_before_training(shop, out, resume=resume, progress=progress) if check else None
    with open_run_folder(out, resume=resume) as folder, terminable(), torch_threads(config.threads):
        if folder.journal.records:
            check_same_run(folder.journal.records[0]["identity"], identity, out, type(config), _may_change(config))
        else:
            folder.journal.append({"identity": identity})
        identity = {**identity, "preflight": checked}
        accelerator.wait_for_everyone()
        trainer, state = Trainer(shop, accelerator), TrainState()
        _restore(trainer, state, out)
        keeper = Keeper(shop, out, progress, build_trackers(config.log_to, out), step=state.step)
        _write_run(folder, identity, "running", state)
        try:
            run_steps(trainer, state, keeper, progress)
            summary = _conclude(shop, state, keeper)
            _save_model(trainer, keeper)
            for trouble in () if shop.score_cache is None else shop.score_cache.describe_trouble():
                progress.note(trouble)
            write_json(out / "summary.json", summary)
        except BaseException as error:
            with uninterrupted():
                _leave(error, trainer, state, keeper)
                with suppress(DiskError):  # what went wrong first is what has to be told
                    interrupted = isinstance(error, KeyboardInterrupt)
                    _write_run(folder, identity, "interrupted" if interrupted else "failed", state)
            raise
        finally:
            keeper.close()
        _write_run(folder, identity, "done", state)
        end_with_report(out, progress.note)
    return Training(out, summary)


def _leave(error: BaseException, trainer: Trainer, state: TrainState, keeper: Keeper) -> None:
    """Keep the last whole step of a run that is being left; as a model too where the run cannot go on from it.

    Of a split student only where all processes have come to the same error; else the last checkpoint stays the last.
    """
    is_common = isinstance(error, TrainingError)
    if not (is_common or trainer.held.is_alone):
        return
    with suppress(DiskError):
        keeper.rescue(state, trainer.tensors())
        if is_common and state.is_whole:
            _save_model(trainer, keeper)


def _save_model(trainer: Trainer, keeper: Keeper) -> None:
    with trainer.held.whole():
        if keeper.writes:
            save_model(trainer.shop, keeper.folder)


def _accelerate(config: TrainConfig) -> Accelerator:
    """The processes that train together; started by `accelerate launch`, or one.

    Raises:
        SpecError: a way of splitting the model over processes that this loop does not know.
    """
    read_split()  # told before accelerate fails in its own way
    read_zero(config.max_grad_norm)
    with patch_environment(accelerate_use_deepspeed="false"):  # which the loop uses itself, on CPUs too
        accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no")
    if accelerator.distributed_type == DistributedType.MEGATRON_LM:
        raise SpecError(
            "accelerate was set up for Megatron-LM, which this loop does not know. Launch with --use_fsdp "
            "--fsdp_version 2 or --use_deepspeed to split the student over processes."
        )
    return accelerator


def _follow(shop: Workshop, accelerator: Accelerator, out: Path) -> Training:
    """The part of a process that writes nothing."""
    with torch_threads(shop.config.threads):
        accelerator.wait_for_everyone()
        trainer, state = Trainer(shop, accelerator), TrainState()
        _restore(trainer, state, out)
        keeper = Keeper(shop, out, Silent(), [], step=state.step, writes=False)
        try:
            run_steps(trainer, state, keeper, Silent())
            _save_model(trainer, keeper)
        except TrainingError as error:
            _leave(error, trainer, state, keeper)
            raise
    return Training(out, {})


def _may_change(config: TrainConfig) -> frozenset[str]:
    """With a schedule that ends at the last step, another number of steps would be another rate of those made."""
    is_constant = config.lr_scheduler_type == "constant" and config.warmup_ratio == 0.0
    return _MAY_CHANGE | {"steps"} if is_constant else _MAY_CHANGE


def _restore(trainer: Trainer, state: TrainState, out: Path) -> None:
    path = find_checkpoint(out)
    if path is None:
        return
    saved = read_checkpoint(path)
    trainer.restore(saved.tensors)
    state.step, state.totals = saved.step, Totals(**saved.told)  # pyright: ignore[reportArgumentType] - as they were kept


def _describe_run(shop: Workshop) -> dict[str, Any]:
    """Identity of a run: what has to be equal for `--resume`, and under which versions it was made."""
    config = shop.config
    seats = shop.settings.seats
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "training",
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "task": shop.task.name,
        "task_fingerprint": fingerprint_questions(shop.questions, wanted=len(shop.questions), has_pilot=False),
        "models": describe_models({STUDENT: shop.student, **{name: seat.model for name, seat in seats.items()}}),
        "teachers": {name: {"context": str(seat.teacher.context)} for name, seat in seats.items()},
        "prompts": shop.prompts.describe(),
        "objectives": {term.objective.name: term.coefficient for term in shop.settings.terms.all},
        "learning_rate": shop.learning_rate,
        "device": config.device,
        "versions": describe_versions(),
    }


def _conclude(shop: Workshop, state: TrainState, keeper: Keeper) -> dict[str, Any]:
    """Before and after, and how they differ question by question."""
    table = keeper.evaluations
    steps = table["step"].unique().sort().to_list()
    described = {step: describe_model(table.filter(step=step)) for step in steps}
    first, last = (table.filter(step=steps[0]), table.filter(step=steps[-1])) if steps else (table, table)
    return {
        "student": shop.student.spec,
        "teachers": list(shop.settings.seats),
        "objectives": {term.objective.name: term.coefficient for term in shop.settings.terms.all},
        "task": shop.task.name,
        "split": shop.config.eval_split,
        "questions": len(shop.exam),
        "samples": shop.config.eval_samples,
        "steps": state.step,
        "before": described[steps[0]] if steps else None,
        "after": described[steps[-1]] if steps else None,
        "comparison": describe_comparison(last, first) if len(steps) > 1 else None,
        "evaluations": [{"step": step, **described[step]["accuracy"]} for step in steps],
        "alarms": [] if keeper.alarms is None else keeper.alarms.rows,
        "last_metrics": keeper.history[-1] if keeper.history else {},
        "cost": asdict(state.totals),
    }


def _write_run(folder: RunFolder, identity: Mapping[str, Any], status: Status, state: TrainState) -> None:
    told = {"status": status, "steps_done": state.step, "cost": asdict(state.totals)}
    write_json(folder.path / "run.json", {**identity, **told})
