"""Does it matter who continues? A teacher that helps and two that destroy, on the task without repair.

    python -m benchmarks.continuation --out DIR [--questions 16]

diagnoses `bundled:student` on `bundled:chain-strict` with `--continuation both` against

    expert       the bundled teacher, right 99 times in 100
    uniform      every token equally likely
    flattened    the student with its logits divided by 3

and prints what each is really worth, J(teacher) - J(student) from both's own rollouts, beside the scores that are to
say so before any training. The run folder in DIR is gone on with where it is there already. Nothing was tuned on it.
"""

import argparse
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

import hydrometer
from benchmarks.study_tables import markdown_table
from hydrometer.diagnosis.run import Diagnosis
from hydrometer.models import CausalModel
from hydrometer.models.transformers_model import TransformersModel, load_model

OBJECTIVE = "reverse_kl"
COLUMNS = (
    ("pooled_cosine", "student"),
    ("pooled_cosine", "own"),
    ("path_advantage", "student"),
    ("path_advantage", "own"),
    ("path_advantage_with_harm", "own"),
)
"""Score, and who continues."""


def build_control(student: TransformersModel, name: str, change: Callable[[Tensor], Tensor]) -> TransformersModel:
    """The student with another output layer."""
    model = copy(student)
    model.network = deepcopy(student.network)
    head = model.network.get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    head.weight = torch.nn.Parameter(change(head.weight.detach()))
    model.spec = model.fingerprint = name
    return model


def run(out: Path, questions: int) -> Diagnosis:
    """The diagnosis, made now or read again."""
    student = load_model("bundled:student")
    teachers: dict[str, CausalModel] = {
        "expert": load_model("bundled:expert"),
        "uniform": build_control(student, "uniform", torch.zeros_like),
        "flattened": build_control(student, "flat", lambda weight: weight / 3.0),
    }
    return hydrometer.diagnose(
        out=out,
        student=student,
        teacher=teachers,
        task="bundled:chain-strict",
        questions=questions,
        objective=["reverse_kl", "forward_kl"],
        continuation="both",
        visits=20,
        min_visits=20,
        seed=1,
        resume=True,
        check=False,
    )


def tell(found: Diagnosis) -> str:
    """A table, a row per teacher."""
    scores = found.table("scores").filter(objective=OBJECTIVE)
    header = ["teacher", "J(teacher) - J(student)", *(f"{score}, {who} continues" for score, who in COLUMNS)]
    rows = []
    for entry in found.summary["values"]:
        teacher = entry["teacher"]
        cells = [teacher, show(entry["difference"]["value"], entry["difference"]["interval"])]
        for score, who in COLUMNS:
            continuation = teacher if who == "own" else who
            row = scores.filter(pl.col("continuation") == continuation, teacher=teacher, score=score).row(0, named=True)
            interval = None if row["low"] is None or row["high"] is None else [row["low"], row["high"]]
            cells.append(show(row["value"], interval))
        share = entry["measured_share"]
        holds = {True: "holds", False: "broken", None: "not known"}[entry["holds"]]
        rows.append([*cells, show(share["value"], share["interval"]), holds])
    return markdown_table([*header, "measured share", "identity"], rows)


def show(value: float | None, interval: list[float] | None) -> str:
    """A number with its interval."""
    if value is None:
        return "none"
    return f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=16)
    asked = parser.parse_args()
    found = run(asked.out, asked.questions)
    print(tell(found))
    print(found.summary["cost"])


if __name__ == "__main__":
    main()
