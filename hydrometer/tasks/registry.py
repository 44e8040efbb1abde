"""From a task spec to a task: `bundled:chain`, `boolq[:PATH]`, `jsonl:PATH`."""

from hydrometer.errors import SpecError, UnknownNameError
from hydrometer.tasks.boolq import load_boolq
from hydrometer.tasks.chain import ChainTask
from hydrometer.tasks.jsonl import load_jsonl
from hydrometer.types import Task

TASKS = ("bundled:chain", "bundled:chain-strict", "boolq", "jsonl")


def load_task(spec: str) -> Task:
    """The task a spec names.

    Raises:
        UnknownNameError: no such task.
        SpecError: its file is missing, or a row of it cannot be used.
    """
    head, _, rest = spec.partition(":")
    if spec in ("bundled:chain", "bundled:chain-strict"):
        return ChainTask(strict=spec.endswith("strict"))
    if head == "boolq":
        return load_boolq(rest or None)
    if head == "jsonl":
        if not rest:
            raise SpecError("'jsonl' needs the path of a file: jsonl:PATH")
        return load_jsonl(rest)
    raise UnknownNameError("task", spec if head == "bundled" else head, TASKS)
