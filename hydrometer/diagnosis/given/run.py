"""`--candidates-from RUN`: the rollouts and the kept candidates of a finished diagnosis, for other teachers.

Which tokens a run keeps depends on its teachers. A run made from RUN keeps exactly the (node, token) pairs that RUN
kept, with RUN's rollouts, so that its teachers are compared with RUN's at the same nodes, tokens and success rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hydrometer.artifacts import TABLES, read_json, read_table
from hydrometer.artifacts.model_identity import is_same_model
from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.given.rollouts import FrozenPath, GivenQuestion, GivenRollout, GivenRollouts
from hydrometer.errors import RunFolderError, SpecError
from hydrometer.models import CausalModel
from hydrometer.runs.fingerprints import fingerprint, fingerprint_questions
from hydrometer.runs.prompt_options import PromptOptions
from hydrometer.teachers import ListedCandidates
from hydrometer.types import STUDENT, Grades, Grading, Question, Rollout, Score, Task

_READ = ("questions", "rollouts", "nodes", "candidates")
_TAKEN = (
    "questions", "rollouts", "paths", "nodes_per_path", "nodes_per_question", "demos", "allocation", "visits",
    "branch_budget", "min_visits",
    "candidate_threshold", "pilot", "pilot_low", "pilot_high",
)  # fmt: skip
"""Options that say how RUN's rollouts and candidates came about: they are RUN's, whatever the defaults are."""
_EQUAL = (
    "temperature", "top_p", "max_response_tokens", "grading", "seed", "dtype", "verifier", "rollouts_from",
    "correct_above",
)  # fmt: skip
_STUDENT_PROMPTS = ("prompt_template", "system_prompt", "chat_template_kwargs", "plain_prompt")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished diagnosis whose run.json has been read."""

    path: str
    described: Mapping[str, Any]
    asked: DiagnoseConfig
    """The config before RUN's own options took their places in it."""

    def resolve(self, config: DiagnoseConfig) -> DiagnoseConfig:
        """The config with RUN's options of sampling and choosing."""
        recorded = self.described["config"]
        return config.model_copy(update={name: recorded[name] for name in _TAKEN})

    def read(self, config: DiagnoseConfig, student: CausalModel, task: Task, prompts: PromptOptions) -> GivenRollouts:
        """RUN's questions with their rollouts, kept candidates and node weights.

        Raises:
            SpecError: RUN was made from something else; all that differs is listed.
            RunFolderError: a table is missing or of another version.
        """
        questions = [prompts.show(question) for question in task.questions("diagnose")]
        if differing := self._differences(config, student, task, questions, prompts):
            more = f"\n  and {len(differing) - 8} more" if len(differing) > 8 else ""
            raise SpecError(
                f"--candidates-from {self.path}: a run made from it has to be made like it, but these differ:\n"
                + "\n".join(differing[:8]) + more
            )  # fmt: skip
        tables = {name: self._table(name) for name in _READ}
        tables |= {name: tables[name].filter(continuation=STUDENT) for name in ("nodes", "candidates")}
        if tables["nodes"].is_empty():
            raise SpecError(
                f"--candidates-from {self.path}: only teachers continued responses there, and the candidates that are "
                "taken are those that the student continued. Make that run with --continuation both."
            )
        rollouts = _rollouts(tables["rollouts"], config.grading)
        frozen = _frozen(tables["nodes"], tables["candidates"])
        known = set(tables["questions"]["question_id"].to_list())
        given = tuple(
            GivenQuestion(question, rollouts[question.question_id], frozen[question.question_id])
            for question in questions
            if question.question_id in known
        )
        if len(given) != len(known):
            raise SpecError(
                f"--candidates-from {self.path}: the task lacks {len(known) - len(given)} of its questions."
            )
        content = fingerprint(frame.write_ndjson().encode() for frame in tables.values())
        names = list(self.described["teachers"])
        note = (
            f"Candidates of {self.path}: nothing was sampled; every score is over the nodes and tokens that that run "
            f"kept for its teachers ({', '.join(names)}), with its rollouts. A token that only a new teacher favours "
            "is not among them."
        )
        selection = self.described.get("questions", {})
        return GivenRollouts("run", self.path, content, given, (note,), selection=selection, teachers=frozenset(names))

    def _table(self, name: str) -> pl.DataFrame:
        table = read_table(Path(self.path).expanduser() / f"{name}.parquet")
        if absent := [column for column in TABLES[name] if column not in table.columns]:
            raise RunFolderError(
                f"{self.path}/{name}.parquet lacks {', '.join(absent)}: another version wrote it. Run that diagnosis "
                "again with --resume and the same options; its tables are rebuilt and nothing is sampled."
            )
        return table

    def _differences(
        self,
        config: DiagnoseConfig,
        student: CausalModel,
        task: Task,
        questions: list[Question],
        prompts: PromptOptions,
    ) -> list[str]:
        """One line for everything that RUN was made from and this run is not."""
        then, now = self.described["config"], config.model_dump(mode="json")
        asked = self.asked.model_dump(mode="json")
        found = [_line(name, then.get(name), now[name]) for name in _EQUAL if then.get(name) != now[name]]
        found += [
            _line(name, then[name], asked[name])
            for name in _TAKEN
            if name in self.asked.model_fields_set and asked[name] != then[name]
        ]
        model = self.described["models"][STUDENT]
        if not is_same_model(model["fingerprint"], student.fingerprint):
            found.append(_line("student", model["spec"], student.spec) + " (other files)")
        if model["vocab_size"] != student.vocab_size:
            found.append(_line("vocabulary shared with all teachers", model["vocab_size"], student.vocab_size))
        if self.described["task"] != task.name:
            found.append(_line("task", self.described["task"], task.name))
        asks = fingerprint_questions(questions, wanted=config.questions, has_pilot=bool(config.pilot))
        if self.described["task_fingerprint"] != asks:
            found.append("  the task's questions have changed")
        before, after = self.described["prompts"], prompts.describe()
        found += [
            _line(name, before.get(name), after[name]) for name in _STUDENT_PROMPTS if before.get(name) != after[name]
        ]
        if before["chat_template"].get(STUDENT) != after["chat_template"].get(STUDENT):
            found.append("  the student's chat template")
        return found


def open_finished_run(config: DiagnoseConfig) -> FinishedRun:
    """Read the run.json of the folder that `candidates_from` names.

    Raises:
        RunFolderError: it is no run folder.
        SpecError: it holds no finished diagnosis.
    """
    path = str(config.candidates_from)
    described = read_json(Path(path).expanduser() / "run.json")
    if described.get("kind") != "diagnosis" or described.get("status") != "done":
        raise SpecError(
            f"--candidates-from {path}: expected a finished diagnosis, found a {described.get('kind')} whose status is "
            f"'{described.get('status')}'. Finish it with --resume first."
        )
    return FinishedRun(path, described, config)


def _line(name: str, then: object, now: object) -> str:
    return f"  {name}: {then!r:.80} there, {now!r:.80} here"


def _rollouts(table: pl.DataFrame, grading: Grading) -> dict[str, tuple[GivenRollout, ...]]:
    """By question. The score under the grading that does not count is known by its outcome alone."""
    found: dict[str, list[GivenRollout]] = {}
    for row in table.filter((pl.col("model") == STUDENT) | (pl.col("kind") == "demo")).iter_rows(named=True):
        counts = Score(row["score"], row["correct"], row["parsed"])
        other = bool(row["correct_relaxed" if grading == "strict" else "correct_strict"])
        others = Score(float(other), other, row["parsed"])
        grades = Grades(counts, others) if grading == "strict" else Grades(others, counts)
        rollout = Rollout(
            question_id=row["question_id"],
            rollout_id=row["rollout_id"],
            kind=row["kind"],
            token_ids=tuple(row["token_ids"]),
            text=row["text"],
            score=row["score"],
            correct=row["correct"],
            truncated=row["truncated"],
            parent_rollout_id=row["parent_rollout_id"],
            forced_tokens=row["forced_tokens"],
            model=row["model"],
        )
        found.setdefault(row["question_id"], []).append(GivenRollout(rollout, grades))
    return {question_id: tuple(rollouts) for question_id, rollouts in found.items()}


def _frozen(nodes: pl.DataFrame, candidates: pl.DataFrame) -> dict[str, dict[int, FrozenPath]]:
    """By question and path."""
    parts = {
        key: part.sort("position", "token_id")
        for key, part in candidates.partition_by("question_id", "rollout_id", as_dict=True).items()
    }
    none = candidates.clear()
    found: dict[str, dict[int, FrozenPath]] = {}
    for key, path in nodes.partition_by("question_id", "rollout_id", as_dict=True).items():
        mine = parts.get(key, none)
        listed = ListedCandidates(mine["position"].to_numpy(), mine["token_id"].to_numpy())
        weights = path.sort("position")["node_weight"].to_numpy()
        found.setdefault(key[0], {})[key[1]] = FrozenPath(listed, weights)
    return found
