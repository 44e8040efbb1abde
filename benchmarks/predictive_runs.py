"""What the study of predictive validity leaves in OUT, each made once.

`controls/NAME` are made teachers, `diagnosis-BLOCK` one diagnosis of all teachers and objectives of a block,
`aggregates-BLOCK` one of `self+aggregate:CONTEXT` in place of each of its teachers that sees a context of one question,
`before-BLOCK` the untrained student on the test questions, `CELL-SEED` a training run, `after-CELL-SEED` its student on
the test questions; `costs.jsonl` has the CPU seconds of each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.predictive_cells import (
    BLOCKS,
    DIAGNOSIS,
    EXAM,
    MADE,
    OBJECTIVES,
    PRIVATE,
    TEACHERS,
    TRAINING,
    UNTRAINED_SAMPLES,
    Block,
    Cell,
)
from benchmarks.predictive_controls import make_control
from benchmarks.study_arms import run_once
from hydrometer.diagnosis.run import diagnose
from hydrometer.evaluation.run import evaluate
from hydrometer.training.run import train


def teacher_spec(out: Path, name: str) -> str:
    """`NAME=SPEC`; a made teacher is made."""
    spec = TEACHERS[name]
    if spec.startswith(MADE):
        spec = str(make_control(out / "controls", spec.removeprefix(MADE)).resolve())
    return f"{name}={spec}"


def diagnose_block(out: Path, name: str) -> Path:
    """The diagnosis of a block."""
    return _diagnose(out / f"diagnosis-{name}", BLOCKS[name], [teacher_spec(out, one) for one in BLOCKS[name].cells])


def diagnose_aggregates(out: Path, name: str) -> Path:
    """The diagnosis of what a block's contexts of one question can teach."""
    private = [teacher for teacher in BLOCKS[name].cells if teacher in PRIVATE]
    means = [f"{teacher}={TEACHERS[teacher].replace('self+', 'self+aggregate:')}" for teacher in private]
    return _diagnose(out / f"aggregates-{name}", BLOCKS[name], means)


def _diagnose(folder: Path, block: Block, teachers: Sequence[str]) -> Path:
    options: Mapping[str, Any] = {**DIAGNOSIS, "teacher": teachers, "objective": list(OBJECTIVES.values())}
    run_once(
        folder,
        lambda: diagnose(out=folder, student=block.student, task=block.task, resume=folder.exists(), **options),
    )
    return folder


def examine_untrained(out: Path, name: str) -> Path:
    """The student of a block before any training."""
    folder, block = out / f"before-{name}", BLOCKS[name]
    examine(folder, block.student, task=block.task, **{**EXAM, "samples": UNTRAINED_SAMPLES})
    return folder


def train_cell(out: Path, cell: Cell, seed: int) -> Path:
    """Train one cell with one seed; the folder of its exam."""
    block, folder = BLOCKS[cell.block], out / f"{cell.name}-{seed}"
    options: Mapping[str, Any] = {
        **TRAINING,
        "student": block.student,
        "task": block.task,
        "teacher": [teacher_spec(out, cell.teacher)],
        "objective": [OBJECTIVES[cell.objective]],
        "seed": seed,
    }
    run_once(folder, lambda: train(out=folder, resume=folder.exists(), **options))
    exam = out / f"after-{cell.name}-{seed}"
    examine(exam, str(folder / "model"), task=block.task, seed=seed, **EXAM)
    return exam


def examine(folder: Path, model: str, **options: Any) -> None:
    """Ask a model the test questions, unless that is done."""
    run_once(folder, lambda: evaluate(model=model, out=folder, resume=folder.exists(), **options))
