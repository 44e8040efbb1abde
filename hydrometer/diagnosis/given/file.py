"""From a file of rollouts to `GivenRollouts`: token ids, outcomes, and which rollout plays which part.

Of each question, in a seeded order that looks at nothing else: `--paths` are analysed; then, where a context shows
demonstrations, up to `--demos` but at most a quarter of the group are kept for them; all others are counted.
"""

from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.given.rollouts import GivenQuestion, GivenRollout, GivenRollouts
from hydrometer.diagnosis.given.rows import GivenGroup, GivenRow, read_groups
from hydrometer.errors import SpecError
from hydrometer.models import CausalModel, Conventional
from hydrometer.runs.fingerprints import fingerprint
from hydrometer.runs.prompt_options import PromptOptions
from hydrometer.sampling import rollout_seed
from hydrometer.tasks import GradedElsewhere, grade_by
from hydrometer.tasks.rows import QuestionSet, expand
from hydrometer.types import Grades, Message, Question, Rollout, RolloutKind, Score, Task

_FEWEST_COUNTED = 2
"""Rollouts besides the analysed ones without which a question is left out."""
_DEMO_SHARE = 4
"""Demonstrations are at most one in so many rollouts of a question."""


class _Tokens(NamedTuple):
    """A response as token ids."""

    ids: tuple[int, ...]
    truncated: bool
    logprobs: tuple[float, ...] | None
    open_end: bool
    """Said to have ended, without an end-of-sequence token among its ids."""


@dataclass(frozen=True, slots=True)
class RolloutFile:
    """A file of rollouts whose rows have been read."""

    path: str
    groups: tuple[GivenGroup, ...]
    fingerprint: str

    @property
    def task_name(self) -> str:
        """What stands in for a task spec."""
        return f"rollouts:{self.path}"

    def resolve(self, config: DiagnoseConfig) -> DiagnoseConfig:
        """The config with what the file decides.

        Raises:
            SpecError: an option that has no meaning beside a file of rollouts, or branches without a verifier.
        """
        given = config.model_fields_set
        if config.task not in (DiagnoseConfig.model_fields["task"].default, self.task_name):
            raise SpecError(f"--rollouts-from brings its own questions, so --task '{config.task}' cannot be added.")
        for name in ("rollouts", "pilot"):
            if name in given and getattr(config, name) != DiagnoseConfig.model_fields[name].default:
                raise SpecError(f"--{name} asks for rollouts to be sampled; --rollouts-from takes those of the file.")
        decided: dict[str, object] = {"task": self.task_name}
        if "allocation" not in given:
            decided["allocation"] = "on_policy"
        if "questions" not in given:
            decided["questions"] = len(self.groups)
        if decided.get("allocation", config.allocation) != "on_policy":
            self._refuse_ungradable(config)
        return config.model_copy(update=decided)

    def _refuse_ungradable(self, config: DiagnoseConfig) -> None:
        lacking = [group for group in self.groups if not group.question.answer]
        if config.verifier is None or lacking:
            which = f"; line {lacking[0].rows[0].line} has none" if lacking else ""
            raise SpecError(
                f"--allocation {config.allocation} samples branches, which have to be graded: that needs a column "
                f"'answer' in every row{which}, and --verifier NAME. Without --allocation nothing is sampled."
            )

    def task(self, verifier: str | None) -> Task:
        """The file's questions, graded by a verifier where one is named.

        Raises:
            UserError: no such verifier.
        """
        questions = tuple(group.question for group in self.groups)
        source = QuestionSet(self.task_name, {"diagnose": questions}, verifier or "")
        return GradedElsewhere(source) if verifier is None else grade_by(source, verifier)

    def fit(self, config: DiagnoseConfig, student: CausalModel) -> DiagnoseConfig:
        """The config with a length limit that no response of the file exceeds.

        Raises:
            SpecError: a response cannot be made token ids, or the limit that was asked for is below one of them.
        """
        encoder = _Encoder(student)
        lengths = {row.line: len(encoder.encode(row, self.path).ids) for group in self.groups for row in group.rows}
        line = max(lengths, key=lambda number: lengths[number])
        if lengths[line] <= config.max_response_tokens:
            return config
        if "max_response_tokens" in config.model_fields_set:
            raise SpecError(
                f"{self.path}, line {line}: the response has {lengths[line]} tokens, more than --max-response-tokens "
                f"{config.max_response_tokens}. Give the limit that it was sampled with, or leave the option out."
            )
        return config.model_copy(update={"max_response_tokens": lengths[line]})

    def read(
        self, config: DiagnoseConfig, student: CausalModel, prompts: PromptOptions, *, needs_demos: bool
    ) -> GivenRollouts:
        """The rollouts with their parts.

        Raises:
            SpecError: a token outside the vocabulary, tokens after the end, or no question with enough rollouts.
        """
        encoder = _Encoder(student)
        least = config.paths + _FEWEST_COUNTED
        enough = [group for group in self.groups if len(group.rows) >= least]
        if not enough:
            raise SpecError(
                f"{self.path}: no question has {least} rollouts (--paths {config.paths} and {_FEWEST_COUNTED} to be "
                f"counted); the largest group has {max(len(group.rows) for group in self.groups)}."
            )
        taken = enough[: config.questions]
        encoded = [[encoder.encode(row, self.path) for row in group.rows] for group in taken]
        kept = {group.question.question_id for group in taken}
        left_out = tuple(g.question.question_id for g in self.groups if g.question.question_id not in kept)
        questions = [
            _give(group, tokens, prompts.show(group.question), config, student, needs_demos=needs_demos)
            for group, tokens in zip(taken, encoded, strict=True)
        ]
        notes = _notes(self, config, taken, encoded, fewer=len(self.groups) - len(enough))
        return GivenRollouts("file", self.path, self.fingerprint, tuple(questions), notes, left_out)


def open_rollout_file(path: str) -> RolloutFile:
    """Read the rows of a file.

    Raises:
        SpecError: see `read_groups`.
    """
    groups = read_groups(path)
    return RolloutFile(path, groups, fingerprint([expand(path).read_bytes()]))


class _Encoder:
    """Owns the student's tokenizer and the token that it closes a response with."""

    def __init__(self, student: CausalModel):
        self.student = student
        self._closing: int | None = None

    def encode(self, row: GivenRow, path: str) -> _Tokens:
        """Token ids of a row's response; text that was not cut off gets the end-of-sequence token.

        Raises:
            SpecError: text without a tokenizer, a token outside the vocabulary, or one after the end.
        """
        place = f"{path}, line {row.line}"
        ids = self._ids(row, place)
        if outside := [token for token in ids if token >= self.student.vocab_size]:
            raise SpecError(
                f"{place}: token {outside[0]} is outside the vocabulary of {self.student.vocab_size} that student and "
                "teachers share. Were these ids made with another tokenizer?"
            )
        ends = [place_ for place_, token in enumerate(ids) if token in self.student.eos_ids]
        if ends and ends[0] + 1 < len(ids):
            raise SpecError(
                f"{place}: an end-of-sequence token ({ids[ends[0]]}) is at place {ends[0] + 1} of {len(ids)}. Leave "
                "out what follows it (padding?)."
            )
        truncated = not ends if row.truncated is None else row.truncated
        return _Tokens(ids, truncated, self._logprobs(row, ids), not ends and not truncated)

    def _ids(self, row: GivenRow, place: str) -> tuple[int, ...]:
        if row.token_ids is not None:
            return row.token_ids
        if not isinstance(self.student, Conventional):
            raise SpecError(f"{place}: student '{self.student.spec}' has no tokenizer for text; give 'response_ids'.")
        ids = self.student.encode(row.text or "")
        if row.truncated or (ids and ids[-1] in self.student.eos_ids):
            return ids
        if self._closing is None:
            self._closing = _closing_id(self.student, self.student.eos_ids)
        return (*ids, self._closing)

    def _logprobs(self, row: GivenRow, ids: tuple[int, ...]) -> tuple[float, ...] | None:
        """Those of the row; None where tokenising anew gave another number of tokens."""
        return row.logprobs if row.logprobs is not None and len(row.logprobs) == len(ids) else None


def _closing_id(student: Conventional, eos_ids: frozenset[int]) -> int:
    """The end-of-sequence token that the chat template closes an answer with."""
    if len(eos_ids) == 1:
        return next(iter(eos_ids))
    said = "x"
    text = student.finished_text((Message("user", said), Message("assistant", said)))
    closing = [token for token in student.encode(text[text.rfind(said) + 1 :]) if token in eos_ids]
    if not closing:
        raise SpecError(
            f"The student has several end-of-sequence tokens ({sorted(eos_ids)}) and its chat template uses none of "
            "them, so it is not known which one ended a response. Give 'response_ids' instead of 'response'."
        )
    return closing[0]


def _give(
    group: GivenGroup,
    tokens: list[_Tokens],
    question: Question,
    config: DiagnoseConfig,
    student: CausalModel,
    *,
    needs_demos: bool,
) -> GivenQuestion:
    count = len(group.rows)
    demos = min(config.demos, count // _DEMO_SHARE, count - config.paths - _FEWEST_COUNTED) if needs_demos else 0
    counted = count - config.paths - demos
    parts: list[RolloutKind] = [*repeat("path", config.paths), *repeat("demo", demos), *repeat("base", counted)]
    rng = np.random.default_rng(rollout_seed(config.seed, f"given\x1f{question.question_id}", 0))
    kinds: dict[int, RolloutKind] = dict(zip(rng.permutation(count).tolist(), parts, strict=True))
    rollouts = []
    for number, (row, encoded) in enumerate(zip(group.rows, tokens, strict=True)):
        score = Score(row.reward, row.reward > config.correct_above, True)
        text = student.decode(encoded.ids)
        rollout = Rollout(
            question.question_id,
            number,
            kinds[number],
            encoded.ids,
            text,
            score.value,
            score.correct,
            encoded.truncated,
        )
        rollouts.append(GivenRollout(rollout, Grades.same(score), encoded.logprobs))
    return GivenQuestion(question, tuple(rollouts))


def _notes(
    file: RolloutFile, config: DiagnoseConfig, taken: list[GivenGroup], encoded: list[list[_Tokens]], *, fewer: int
) -> tuple[str, ...]:
    rows = [row for group in taken for row in group.rows]
    tokens = [one for group in encoded for one in group]
    correct = sum(row.reward > config.correct_above for row in rows)
    notes = [
        f"Rollouts of {file.path}: {len(rows)} of {len(taken)} questions, {correct} correct (reward above "
        f"{config.correct_above:g}) and {len(rows) - correct} not.",
        "Given rollouts cannot tell whether they were sampled from this student, with this prompt, temperature and "
        "top-p; if they were not, every number here is biased. Nor do they tell success rates of tokens that few of "
        "them took, as is soon so after the first tokens, or anything of tokens that none of them took.",
    ]
    if retokenised := sum(row.token_ids is None for row in rows):
        notes.append(
            f"{retokenised} responses are text and were tokenised anew, which may give other ids than those that were "
            "sampled; 'response_ids' would be exact."
        )
    if lost := sum(r.logprobs is not None and t.logprobs is None for r, t in zip(rows, tokens, strict=True)):
        notes.append(f"The logprobs of {lost} responses fit no token ids after tokenising anew and were not compared.")
    if open_ends := sum(one.open_end for one in tokens):
        notes.append(f"{open_ends} responses ended without an end-of-sequence token among their ids; none was added.")
    if truncated := sum(one.truncated for one in tokens):
        notes.append(f"{truncated} of the {len(rows)} responses were cut off.")
    if fewer:
        least = config.paths + _FEWEST_COUNTED
        notes.append(f"{fewer} questions with fewer than {least} rollouts were left out; run.json lists them.")
    if (unwanted := len(file.groups) - fewer - len(taken)) > 0:
        notes.append(f"{unwanted} more questions of the file were left out by --questions {config.questions}.")
    return tuple(notes)
