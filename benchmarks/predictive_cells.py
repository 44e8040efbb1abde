"""What the study of predictive validity trains and measures, fixed before its first run.

A cell is a student, a task, a teacher and an objective; a block is a student and a task. Each of 14 teachers stands in
two blocks, once with `reverse_kl` and once with another objective (a fraction of the 4 x 14 x 3 that are possible).
Development was done with seed 100 on questions of the diagnose split only; the reported gains are of the test split.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

TRAINING: Mapping[str, Any] = {
    "steps": 30,
    "prompts_per_step": 16,
    "num_generations": 4,
    "eval_questions": 0,
    "alarms": "off",
    "max_response_tokens": 64,
    "threads": 1,
}
"""The one budget."""
EXAM: Mapping[str, Any] = {"questions": 100, "samples": 4, "max_response_tokens": 64, "threads": 1}
"""Of every trained student, and of the untrained ones with twice the samples."""
UNTRAINED_SAMPLES = 8
DIAGNOSIS: Mapping[str, Any] = {
    "questions": 24,
    "rollouts": 16,
    "visits": 8,
    "min_visits": 8,
    "continuation": "both",
    "max_response_tokens": 64,
    "threads": 1,
}
SEEDS = (0, 1, 2)
PRIMARY = "path_advantage, teacher"
SECOND = "pooled_cosine, teacher"
PAPERS = "pooled_cosine, student"
OBJECTIVES: Mapping[str, str] = {
    "reverse_kl": "reverse_kl",
    "forward_kl": "forward_kl",
    "top5": "topk_reverse_kl:k=5,form=stop_gradient",
}
MADE = "made:"
PRIVATE = ("answer", "solution", "correct_demo")
"""Teachers who see what the student never will: a context of the question at hand."""
TEACHERS: Mapping[str, str] = {
    "expert": "bundled:expert",
    "expert_rl": "bundled:expert-rl",
    "other": "bundled:other-pattern",
    "early": "bundled:early",
    "answer": "self+answer",
    "solution": "self+solution",
    "correct_demo": "self+correct_demo",
    "rule": "self+rule:Check every step.",
    "empty": "self+empty:solution",
    "uniform": "made:uniform",
    "sharpened": "made:sharpened",
    "flattened": "made:flattened",
    "careless": "made:careless",
    "swapped": "made:swapped",
}
"""Specs; those of `predictive_controls` begin with `made:`."""


class Block(NamedTuple):
    """A student and a task, and the objective that each of its teachers is trained with."""

    student: str
    task: str
    cells: Mapping[str, str]


class Cell(NamedTuple):
    """One way to train in one block."""

    block: str
    teacher: str
    objective: str

    @property
    def name(self) -> str:
        """As in the names of folders."""
        return f"{self.block}-{self.teacher}-{self.objective}"


BLOCKS: Mapping[str, Block] = {
    "small": Block(
        "bundled:student",
        "bundled:chain",
        {
            "expert": "reverse_kl",
            "other": "reverse_kl",
            "careless": "reverse_kl",
            "rule": "forward_kl",
            "solution": "forward_kl",
            "empty": "top5",
            "flattened": "top5",
        },
    ),
    "large": Block(
        "bundled:student-large",
        "bundled:chain",
        {
            "rule": "reverse_kl",
            "uniform": "reverse_kl",
            "early": "reverse_kl",
            "sharpened": "reverse_kl",
            "expert_rl": "forward_kl",
            "careless": "top5",
            "answer": "top5",
        },
    ),
    "small_strict": Block(
        "bundled:student",
        "bundled:chain-strict",
        {
            "swapped": "reverse_kl",
            "empty": "reverse_kl",
            "answer": "reverse_kl",
            "expert": "forward_kl",
            "sharpened": "forward_kl",
            "correct_demo": "top5",
            "early": "top5",
        },
    ),
    "large_strict": Block(
        "bundled:student-large",
        "bundled:chain-strict",
        {
            "correct_demo": "reverse_kl",
            "expert_rl": "reverse_kl",
            "solution": "reverse_kl",
            "flattened": "reverse_kl",
            "swapped": "forward_kl",
            "other": "forward_kl",
            "uniform": "top5",
        },
    ),
}
CELLS = tuple(
    Cell(name, teacher, objective) for name, block in BLOCKS.items() for teacher, objective in block.cells.items()
)
