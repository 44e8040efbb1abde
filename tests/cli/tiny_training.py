"""Options of a training run of a second on the tiny checkpoints, and a task with all three splits."""

from pathlib import Path

from tiny_runs import QUESTIONS, write_rows

ROWS = [row | {"split": split, "id": f"{split}-{row['id']}"} for split in ("train", "test") for row in QUESTIONS]


def write_training_task(folder: Path) -> None:
    """`training.jsonl`, six questions in the train split and six others in the test split."""
    write_rows(folder / "training.jsonl", ROWS)


def tiny_training(**changes: str) -> list[str]:
    """Arguments of `hydrometer train`; an option given as an empty text is left out."""
    options = {
        "student": "student",
        "teacher": "good=good",
        "task": "jsonl:training.jsonl",
        "max-response-tokens": "6",
        "steps": "4",
        "prompts-per-step": "2",
        "num-generations": "2",
        "eval-questions": "2",
        "eval-samples": "2",
        "save-steps": "100",
        "out": "out",
    }
    options |= {name.replace("_", "-"): value for name, value in changes.items()}
    return ["train", *(text for name, value in options.items() if value for text in (f"--{name}", value))]
