"""Run folders with made answers, for benchmarks that read evaluations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydrometer.artifacts import build_table, write_table


def write_answers(
    folder: Path, right: Mapping[int, Sequence[int]], *, samples: int, texts: Mapping[int, str] | None = None
) -> None:
    """A new folder with an evaluation in which, by step, `right[step][question]` of the samples are correct."""
    rows = [
        {
            "step": step,
            "model": "model",
            "question_id": f"q{question}",
            "sample": sample,
            "correct": sample < count,
            "correct_strict": sample < count,
            "correct_relaxed": sample < count,
            "tokens": 9,
            "truncated": False,
            "parsed": True,
            "text": (texts or {}).get(step, ""),
        }
        for step, counts in right.items()
        for question, count in enumerate(counts)
        for sample in range(samples)
    ]
    folder.mkdir(parents=True)
    write_table(folder / "evaluation.parquet", build_table("evaluation", rows))
