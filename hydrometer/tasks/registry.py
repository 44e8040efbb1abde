"""From a task spec to a task: `gsm8k`, `jsonl:PATH`, `reasoning_gym:NAME`, ... (docs/tasks.md lists them)."""

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks.boolq import load_boolq
from hydrometer.tasks.chain import ChainTask
from hydrometer.tasks.datasets import DATA_SETS, load_data_set
from hydrometer.tasks.isolated_task import IsolatedTask, Questions
from hydrometer.tasks.isolation import IsolatedVerifier
from hydrometer.tasks.jsonl import load_jsonl
from hydrometer.tasks.reasoning_gym import ReasoningGymQuestions, load_reasoning_gym
from hydrometer.tasks.rows import QuestionSet
from hydrometer.tasks.verifiers import VERIFIERS, check_verifier_name
from hydrometer.types import Task

BUNDLED = ("bundled:chain", "bundled:chain-strict")
TASKS = (*BUNDLED, "boolq", *DATA_SETS, "reasoning_gym", "jsonl", "hf")


def load_task(spec: str, verifier: str | None = None) -> Task:
    """The task a spec names, graded by its own verifier or by the one that is named.

    The bundled tasks grade in this process; every other verifier has a process of its own, which is started with the
    first response (for a `module:function` at once, so that it is known to load).

    Raises:
        UnknownNameError: no such task or verifier.
        SpecError: the task's file is missing, or a row of it cannot be used.
        VerifierError: the verifier cannot be loaded.
    """
    if verifier is not None:
        check_verifier_name(verifier)
    if spec in BUNDLED:
        chain = ChainTask(strict=spec.endswith("strict"))
        return chain if verifier is None else grade_by(chain, verifier)
    source = _load_questions(spec, verifier)
    return grade_by(source, verifier or source.verifier)


def grade_by(questions: Questions, verifier: str) -> IsolatedTask:
    """These questions, graded by the verifier of this name.

    Raises:
        UserError: see `load_task`.
    """
    if verifier == "reasoning_gym" and not isinstance(questions, ReasoningGymQuestions):
        raise SpecError(f"The verifier reasoning_gym scores tasks reasoning_gym:NAME only, not '{questions.name}'.")
    isolated = IsolatedVerifier(verifier)
    if verifier not in VERIFIERS:
        isolated.start()
    return IsolatedTask(questions, isolated)


def _load_questions(spec: str, verifier: str | None) -> QuestionSet | ReasoningGymQuestions:
    head, _, rest = spec.partition(":")
    match head:
        case "boolq":
            return load_boolq(rest or None)
        case "reasoning_gym":
            return load_reasoning_gym(rest)
        case "jsonl":
            if not rest:
                raise SpecError("'jsonl' needs the path of a file: jsonl:PATH")
            return load_jsonl(rest, verifier)
        case "hf":
            if not rest:
                raise SpecError("'hf' needs a dataset: hf:OWNER/NAME[@REVISION][/CONFIG] or hf:./FOLDER")
            from hydrometer.tasks.hub import load_hub  # loads polars

            return load_hub(rest, verifier)
        case _ if head in DATA_SETS:
            return load_data_set(head, rest or None)
    raise UnknownNameError("task", spec if head == "bundled" else head, TASKS)
