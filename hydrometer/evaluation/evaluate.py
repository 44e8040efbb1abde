"""Draw and grade K responses to every question with a model that is loaded already.

A training loop calls this every so many steps:

    responses = evaluate_model(model, sampler, task, questions, samples=4, seed=0, max_response_tokens=96)
    table = build_evaluation_table(responses, step=step)

Every (question, sample) has a seed of its own, which depends on nothing else: two models are asked with the same random
numbers, and a response is the same whatever it shared a batch with (within rounding, see `sampling.protocol`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from hydrometer.artifacts import build_table
from hydrometer.models import CausalModel
from hydrometer.runs.drawing import Grader, Writer, draw_in_rounds
from hydrometer.runs.progress import Progress, Silent
from hydrometer.runs.rollouts import Drawn, Order, ask
from hydrometer.runs.rounds import Rounds
from hydrometer.sampling import Sampler, rollout_seed
from hydrometer.types import Grading, Question, Task, VerifierFailure

MODEL = "model"
"""The part of the evaluated model in a run, as it stands in the column `model`."""


class Response(NamedTuple):
    """One graded response."""

    question_id: str
    sample: int
    """Counted from 0 within its question."""
    correct: bool
    """Under the grading that counts."""
    tokens: int
    """A sampled end-of-sequence token included."""
    truncated: bool
    """Whether the length limit ended it."""
    parsed: bool
    """Whether an answer could be read, under the grading that counts."""
    correct_strict: bool
    correct_relaxed: bool
    text: str
    failure: VerifierFailure | None
    """Why the verifier could not grade it, where it could not."""


def evaluate_model(
    model: CausalModel,
    sampler: Sampler,
    task: Task,
    questions: Sequence[Question],
    *,
    samples: int,
    seed: int,
    max_response_tokens: int,
    grading: Grading = "strict",
    name: str = MODEL,
    rounds: Rounds | None = None,
    progress: Progress | None = None,
) -> list[Response]:
    """Responses by question and sample, in the order of the questions.

    Args:
        model: whose prompts and token ids are used.
        sampler: draws from it, under the settings of the evaluation.
        task: grades.
        questions: what is asked, as the model is to see it.
        samples: responses to each question (>= 1).
        seed: of all random numbers.
        max_response_tokens: the sampler's length limit; it decides how many responses make a round.
        grading: which grading is the outcome.
        name: the model's part in the run.
        rounds: where finished rounds are kept; without it nothing is.
        progress: told what happens; silent by default.

    Raises:
        MemoryLimitError: a batch did not fit.
    """
    progress = progress or Silent()
    orders = [order for question in questions for order in _order(model, question, samples, seed, name)]
    progress.stage(f"responses of {model.spec}", len(orders))
    drawn = draw_in_rounds(
        "evaluate",
        orders,
        Writer(name, model, sampler),
        Grader(task, grading),
        rounds or Rounds(None, progress),
        progress,
        max_tokens=max_response_tokens,
        key=[name],
    )
    return [_respond(one, grading) for one in drawn]


def _order(model: CausalModel, question: Question, samples: int, seed: int, name: str) -> list[Order]:
    asked = ask(model, question.prompt)
    stream = f"evaluate\x1f{question.question_id}"
    return [
        Order(
            question,
            asked.prompt_ids,
            sample,
            "base",
            rollout_seed(seed, stream, sample),
            model=name,
            is_thinking=asked.is_thinking,
        )
        for sample in range(samples)
    ]


def _respond(drawn: Drawn, grading: Grading) -> Response:
    rollout, grades, _ = drawn
    return Response(
        question_id=rollout.question_id,
        sample=rollout.rollout_id,
        correct=rollout.correct,
        tokens=len(rollout.token_ids),
        truncated=rollout.truncated,
        parsed=grades.under(grading).parsed,
        correct_strict=grades.strict.correct,
        correct_relaxed=grades.relaxed.correct,
        text=rollout.text,
        failure=grades.failure,
    )


def build_evaluation_table(responses: Iterable[Response], *, step: int = 0, name: str = MODEL) -> pl.DataFrame:
    """The rows of `evaluation.parquet` for one model at one training step."""
    rows = [{**response._asdict(), "step": step, "model": name} for response in responses]
    for row in rows:
        del row["failure"]
    return build_table("evaluation", rows)
