"""What a training run leaves behind as it goes: lines of metrics and alarms, evaluations, checkpoints.

Only the first process of several writes; the others hold the same history, so that all heed the same alarms.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from hydrometer.artifacts import build_table, read_table, write_table
from hydrometer.dynamics import Alarm
from hydrometer.evaluation.evaluate import build_evaluation_table, evaluate_model
from hydrometer.runs.progress import Answer, Progress, Standing
from hydrometer.training.checkpoints import save_checkpoint
from hydrometer.training.log import Lines, Tracker, read_lines
from hydrometer.training.setup import Workshop
from hydrometer.training.state import TrainState

_WATCHED = ("loss", "accuracy", "reverse_kl", "overlap_ratio", "entropy_gap", "student_entropy", "repeat_ratio")
"""Metrics that are told of while a run goes on."""
_KEEP_EVERY_S = 60.0


class Keeper:
    """Owns the open files of a run folder. Without `writes` it only reads what has happened so far."""

    def __init__(
        self,
        shop: Workshop,
        folder: Path,
        progress: Progress,
        trackers: list[Tracker],
        *,
        step: int,
        writes: bool = True,
    ):
        self.shop = shop
        self.folder = folder
        self.progress = progress
        self.trackers = trackers
        self.writes = writes
        self.metrics = Lines(folder / "metrics.jsonl", last_step=step) if writes else None
        self.alarms = Lines(folder / "alarms.jsonl", last_step=step) if writes else None
        known = read_lines(folder / "metrics.jsonl", last_step=step) if self.metrics is None else self.metrics.rows
        self.history: list[dict[str, Any]] = list(known)
        self.evaluations = self._read_evaluations(step)
        self.kept_at = time.monotonic()
        self.kept_step = step

    def _read_evaluations(self, step: int) -> pl.DataFrame:
        if not (self.folder / "evaluation.parquet").exists():
            return build_table("evaluation", [])
        return read_table(self.folder / "evaluation.parquet").filter(pl.col("step") <= step)

    def log(self, state: TrainState, metrics: Mapping[str, float | None]) -> None:
        """One step's line."""
        totals = state.totals
        row = {"step": state.step, "wall_s": round(totals.wall_s, 3), "tokens": totals.generated_tokens, **metrics}
        self.history.append(row)
        if self.metrics is not None:
            self.metrics.append(row)
        known = {name: value for name, value in row.items() if value is not None}
        for tracker in self.trackers:
            tracker.log(state.step, known)
        if self.progress.wants_answer():
            self.progress.answer(self._answer(state.step))

    def _answer(self, step: int) -> Answer:
        """Where the watched metrics stand, and how they came there."""
        lines: list[Standing] = []
        for name in _WATCHED:
            course = tuple(float(row[name]) for row in self.history if row.get(name) is not None)
            if course:
                lines.append(Standing(name, course[-1], history=course))
        return Answer(f"Step {step} of {self.shop.config.steps}", tuple(lines))

    def alarm(self, alarm: Alarm) -> None:
        """One alarm's line."""
        if self.alarms is not None:
            self.alarms.append(alarm._asdict())

    def evaluate(self, step: int) -> None:
        """Answer the evaluation's questions with the student as it is, unless that is on file."""
        config = self.shop.config
        if not self.writes or not self.shop.exam or step in self.evaluations["step"]:
            return
        responses = evaluate_model(
            self.shop.student,
            self.shop.sampler,
            self.shop.task,
            self.shop.exam,
            samples=config.eval_samples,
            seed=config.seed,
            max_response_tokens=config.max_response_tokens,
            grading=config.grading,
        )
        found = build_evaluation_table(responses, step=step)
        self.evaluations = build_table("evaluation", pl.concat([self.evaluations, found]))
        write_table(self.folder / "evaluation.parquet", self.evaluations)
        self.progress.note(f"step {step}: accuracy {float(found['correct'].to_numpy().mean()):.1%}")

    def keep(self, state: TrainState, tensors: Callable[[], dict[str, Tensor]], *, is_last: bool) -> None:
        """Write a checkpoint where one is due."""
        every = self.shop.config.save_steps
        due = state.step % every == 0 if every else time.monotonic() - self.kept_at > _KEEP_EVERY_S
        if (due or is_last) and self.writes:
            self._save(state, tensors)

    def rescue(self, state: TrainState, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Write a checkpoint of a run that is being left, unless the last one is of this step."""
        if state.is_whole and state.step > self.kept_step:
            self._save(state, tensors)

    def _save(self, state: TrainState, tensors: Callable[[], dict[str, Tensor]]) -> None:
        save_checkpoint(self.folder, state.step, tensors(), asdict(state.totals))
        self.kept_at, self.kept_step = time.monotonic(), state.step

    def close(self) -> None:
        """Close the files."""
        for lines in (self.metrics, self.alarms):
            if lines is not None:
                lines.close()
        for tracker in self.trackers:
            tracker.close()
